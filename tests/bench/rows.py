"""Rows of results, one JSON object a line, each on disk the moment it is known."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def add(path: Path, **row: Any) -> None:
    """Append a row. Several processes may write to one file: a row goes out in a single write."""
    line = json.dumps(row, allow_nan=False) + "\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, line.encode())
    finally:
        os.close(descriptor)


def read(path: Path) -> list[Row]:
    """All rows, without a last one that was cut off."""
    if not path.exists():
        return []
    found = []
    for line in path.read_text().splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found
