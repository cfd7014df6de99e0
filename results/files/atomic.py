"""Replace a file whole or not at all, even after a kill, with a full disk, or with two writers."""

from __future__ import annotations

import os
import time
from pathlib import Path

_ABANDONED = 3600.0
"""Seconds after which a part that nobody finished is swept away."""


def replace(path: Path, content: str | bytes) -> None:
    """Make `content` that of `path`, text as UTF-8, in a folder that is made if need be.

    Readers see the old content or the new, never a mixture, also after a crash of the machine. Raises OSError, and then
    the old content stands.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    part = _part(path)
    try:
        with part.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def prove(path: Path) -> None:
    """Make a part as `replace` would, and remove it. Raises OSError where `replace` would, but for a disk that fills up."""
    part = _part(path)
    try:
        part.open("xb").close()
    finally:
        part.unlink(missing_ok=True)


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.urandom(8).hex()}.part")


def _sweep(path: Path) -> None:
    """Remove the parts that killed writers of this file left behind."""
    for part in path.parent.glob(f".{path.name}.*.part"):
        try:
            if time.time() - part.stat().st_mtime > _ABANDONED:
                part.unlink()
        except FileNotFoundError:
            continue  # another writer swept it, or finished it


def _sync_folder(folder: Path) -> None:
    """Make the new name itself durable."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
