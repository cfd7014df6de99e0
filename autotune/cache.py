"""Compilations that need not be done again: one JSON file each, written whole or not at all, read with suspicion.

The key is the digest of the kernel as specialised for the point, so that rules and ops that share a kernel share its
compilations, and an edited kernel is another key.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from ..results.atomic import replace
from .binary import Compilation

SCHEMA = 1
PACKAGE = Path(__file__).resolve().parent.parent
"""The folder that holds autotune: the repository, or the installed package."""


def is_checkout() -> bool:
    return (PACKAGE / "pyproject.toml").is_file()


def default_folder() -> Path:
    """`.deltaproof/compiled` in a checkout, the user's cache when installed."""
    if is_checkout():
        return PACKAGE / ".deltaproof" / "compiled"
    from platformdirs import user_cache_path

    return user_cache_path("deltaproof") / "compiled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cache:
    """Reads and writes compilations under `folder`. `warn` is told, in one line, of files that cannot be used."""

    folder: Path
    warn: Callable[[str], None] = lambda message: None

    def get(self, key: str) -> Compilation | None:
        """The compilation of this key; None if there is none that can be read."""
        path = self._path(key)
        try:
            entry = json.loads(path.read_bytes())
            if entry["schema"] != SCHEMA or entry["key"] != key:
                raise ValueError("another schema or key")
            return Compilation.from_json(entry["compilation"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:120]
            self.warn(f"{path}: cannot be read ({reason}); compiling again")
            return None

    def put(self, key: str, compilation: Compilation) -> None:
        """Keep a compilation. Raises OSError, and then what was there before stands."""
        replace(self._path(key), json.dumps({"schema": SCHEMA, "key": key, "compilation": compilation.to_json()}))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
