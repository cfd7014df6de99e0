"""Read text that may be no text, of a file that may be no file."""

from __future__ import annotations

import stat
from pathlib import Path

from .strict import TableError

_LARGEST_FILE = 64 * 2**20


def read_text(path: Path, *, piped: bool = False) -> str:
    """The text of a regular file of reasonable size, or of a pipe if `piped`. Raises TableError."""
    try:
        facts = path.stat()
        # Opening a pipe would wait for its writer for ever, which is right only where somebody typed its name.
        if not stat.S_ISREG(facts.st_mode) and not (piped and stat.S_ISFIFO(facts.st_mode)):
            raise TableError(f"{path}: not a regular file")
        if facts.st_size > _LARGEST_FILE:
            raise TableError(f"{path}: {facts.st_size} bytes, more than the {_LARGEST_FILE} that are read")
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise TableError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from None
