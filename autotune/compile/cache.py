"""Compilations that need not be done again: one JSON file each, written whole or not at all, read with suspicion.

The key is the digest of the kernel as specialised for the point, so that rules and ops that share a kernel share its
compilations, and an edited kernel is another key.
"""

from __future__ import annotations

from pathlib import Path

from ...results.files.store import Store
from ...verify.run import cache
from .binary import Compilation


def default_folder() -> Path:
    """`.deltaproof/compiled` in a checkout, the user's cache when installed."""
    return cache.default_folder("compiled")


class Cache(Store[Compilation]):
    """Compilations under a folder."""

    __slots__ = ()
    kind, name, again, schema = Compilation, "compilation", "compiling again", 3
