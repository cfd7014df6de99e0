"""Whether this package runs from a checkout of its repository, which the tools may write into, or was installed."""

from __future__ import annotations

from pathlib import Path


def checkout() -> Path | None:
    """The root of the repository that this module lies in; None for an installed package."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").is_file() else None
