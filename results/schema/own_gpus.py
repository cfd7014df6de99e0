"""A user's own `gpus.toml`, and the part of it that look-ups need. `autotune gpus` shows an example."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .strict import Fields, TableError
from .text_files import read_text

LIMITS = ("shared_per_block", "registers_per_block")


def read_own(path: Path) -> list[Fields]:
    """The GPUs in a file, each with the limits of its architecture if that is in the file too. Raises TableError."""
    gpus, architectures = read_tables(path)
    return [_row(slug, dict(row), architectures, path) for slug, row in gpus.items()]


def read_tables(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, dict[str, Any]]]:
    """The tables [gpus.NAME] and [architectures.NAME] of a file, by name. Raises TableError."""
    import tomllib

    try:
        document = tomllib.loads(read_text(path))
    except RecursionError:
        raise TableError(f"{path}: not valid TOML: nested too deeply") from None
    except tomllib.TOMLDecodeError as error:
        raise TableError(f"{path}: not valid TOML: {error}") from None
    if unknown := sorted(set(document) - {"gpus", "architectures", "sources"}):
        raise TableError(f"{path}: unknown table [{unknown[0]}]; accepted: gpus, architectures, sources")
    architectures = _tables(document, "architectures", path)
    return _tables(document, "gpus", path), architectures


def _row(slug: str, row: dict[str, Any], architectures: dict[str, dict[str, Any]], path: Path) -> Fields:
    limits = architectures.get(row["arch"], {}) if isinstance(row.get("arch"), str) else {}
    known = {name: limits[name] for name in LIMITS if name in limits}
    return Fields({"slug": slug, "aliases": []} | known | row, f"{path}: gpus.{slug}")


def _tables(document: dict[str, Any], name: str, path: Path) -> dict[str, dict[str, Any]]:
    found = document.get(name, {})
    if not isinstance(found, dict) or not all(isinstance(row, dict) for row in found.values()):
        raise TableError(f"{path}: [{name}] may hold only tables [{name}.NAME]")
    return found
