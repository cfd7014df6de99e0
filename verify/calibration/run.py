"""Measure the shares of a calibration in child processes, except those that are known."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..process.limits import WORKER_BYTES
from ..process.pool import Failure, Workers, one_thread
from .calibrate import MeasuredShare, Share, measure
from .log import Log


def calibrate(
    shares: Sequence[Share], jobs: int, log: Log, on_share: Callable[[MeasuredShare], None]
) -> list[MeasuredShare]:
    """Row ratios of all shares, measured in child processes; those of the log first. KeyboardInterrupt passes through."""
    found = []
    waiting = []
    for share in shares:
        known = log.get(share)
        if known is None:
            waiting.append(share)
        else:
            found.append(known)
            on_share(known)
    with Workers(jobs, one_thread, interpret=True, memory=WORKER_BYTES) as workers:
        for index, measured in workers.run(measure, [(share,) for share in waiting], timeout=None, tries=1):
            if isinstance(measured, Failure):
                raise RuntimeError(f"measuring {waiting[index]} ended in a {measured.outcome}")
            found.append(measured)
            log.put(waiting[index], measured)
            on_share(measured)
    return found
