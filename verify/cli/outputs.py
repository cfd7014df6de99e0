"""Files that a command is to write, proven writable before any work is done."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from ...results.files.atomic import prove


def proven(path: Path | None) -> Path | None:
    """The callback of an option that names a file to write: it is refused here if it cannot be written."""
    if path is not None:
        try:
            _prove(path)
        except OSError as error:
            raise typer.BadParameter(f"cannot write {path}: {error.strerror}") from None
    return path


def distinct(*paths: Path | None) -> None:
    """Check that no two options name one file, since the second report would replace the first. Raises typer.BadParameter."""
    named = [path for path in paths if path is not None and not is_stdout(path)]
    for index, path in enumerate(named):
        if path.resolve() in [other.resolve() for other in named[:index]]:
            raise typer.BadParameter(f"two reports are to be written to {path}; accepted: a file for each")


def is_stdout(path: Path) -> bool:
    """Whether a path, by any name, is this command's standard output; opened anew, it would be overwritten."""
    try:
        return os.path.samestat(path.stat(), os.fstat(1))
    except OSError:
        return False


def _prove(path: Path) -> None:
    if is_stdout(path):
        return
    if not path.parent.is_dir():
        raise typer.BadParameter(f"cannot write {path}: there is no folder {path.parent}")
    if path.is_dir():
        raise typer.BadParameter(f"cannot write {path}: it is a folder")
    if path.exists() and not path.is_file():
        if not os.access(path, os.W_OK):
            raise typer.BadParameter(f"cannot write {path}: Permission denied")
        return
    prove(Path(os.path.realpath(path)))
