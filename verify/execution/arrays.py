"""Arrays by name in a file that need not be computed again."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from ...results.files.atomic import replace


def stored_arrays(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file; None if it is missing or damaged."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):
        return None


def store_arrays(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file, whole or not at all. Raises OSError."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    replace(path, buffer.getvalue())
