"""Data files that ship beside these modules, in a checkout, a wheel or a zip."""

from __future__ import annotations

from importlib.resources import files
from importlib.resources.abc import Traversable


def packaged(name: str) -> Traversable:
    """A file or folder of `deltaproof.results`; it need not exist."""
    return files(str(__package__).rpartition(".")[0]) / name
