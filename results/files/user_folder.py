"""A user's own files: the folder of tables and records, and the file of GPUs."""

from __future__ import annotations

import os
import sys
from pathlib import Path

GPUS = "DELTAPROOF_GPUS"
"""Names a file of GPUs to be read instead of the one in the user's folder."""


def user_folder() -> Path:
    """The folder that tuning writes to."""
    if sys.platform == "darwin":
        base = Path.home() / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_DATA_HOME", "").strip() or Path.home() / ".local" / "share")
    return base / "deltaproof"


def gpus_file() -> Path | None:
    """The user's own GPUs, or None where there are none. A file that the environment names need not be there."""
    if named := os.environ.get(GPUS, "").strip():
        return Path(named)
    file = user_folder() / "gpus.toml"
    return file if os.path.lexists(file) else None
