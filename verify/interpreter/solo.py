"""Operations whose result depends on the order of programs refuse to run in a share of a grid."""

from __future__ import annotations

in_share = False
"""True in a process that runs a share of a grid only."""


class NeedsOneProcess(Exception):
    """The launch must be run again, by one process."""


def require_one_process() -> None:
    if in_share:
        raise NeedsOneProcess
