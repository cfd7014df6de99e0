"""The digest of code: that of our own survives an edit that changes nothing, that of other people's is of its bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from .sources import Sources

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder that holds kernels, specs and verify: the repository, or the installed package."""
_FOLDERS = ("kernels", "specs", "verify", "autotune", "results")


def code_digest(*places: str, without: tuple[str, ...] = ()) -> str:
    """Names these files and folders of the package with all that they import, however deep; but for the folders `without`.

    Comments, docstrings, names of locals and places of files do not count. Raises TableError for a file that is not Python.
    """
    files = (path for folder in _FOLDERS for path in (PACKAGE / folder).rglob("*.py"))
    return _digest(bytes_digest(PACKAGE, files), PACKAGE, places, without)


def bytes_digest(folder: Path, files: Iterable[Path]) -> str:
    """Names files of a folder by their places and bytes."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


@lru_cache(maxsize=16)
def _digest(_bytes: str, package: Path, places: tuple[str, ...], without: tuple[str, ...]) -> str:
    """`code_digest`, which parses a few hundred files, once for files with these bytes."""
    paths = [package / place for place in places]
    roots = [path for place in paths for path in ([place] if place.suffix else place.rglob("*.py")) if path.is_file()]
    sources = Sources()
    names = {path: path.relative_to(package.resolve()).as_posix() for path in sources.files(roots)}
    reached = [path for path, name in names.items() if not name.startswith(tuple(f"{one}/" for one in without))]
    return hashlib.sha256(" ".join(sorted(sources.module_digests(reached))).encode()).hexdigest()
