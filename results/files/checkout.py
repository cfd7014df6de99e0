"""Whether this package runs from a checkout of its repository, which the tools may write into, or was installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def checkout() -> Path | None:
    """The root of the repository that this module lies in; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None


def leave_path() -> None:
    """Let imports no longer look into the root of the checkout, where a command may have been typed: transformers, which
    flash-linear-attention imports, asks for a package called kernels, and means another than the folder there."""
    root = checkout()
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != root]


@contextmanager
def off_path() -> Iterator[None]:
    """Within, as after `leave_path`."""
    before = sys.path[:]
    leave_path()
    try:
        yield
    finally:
        sys.path[:] = before
