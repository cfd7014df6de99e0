"""Verdicts that need not be reached again: one JSON file per cell, keyed by everything the verdict depends on."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from .document import SCHEMA, installed_version
from .verdict import Verdict

PACKAGE = Path(__file__).resolve().parent.parent
"""The folder that holds kernels, specs and verify: the repository, or the installed package."""

_SOURCES = ("kernels", "specs", "verify", "results")
_TOOLS = ("torch", "triton", "numpy", "hypothesis")


def default_folder() -> Path:
    """`.deltaproof/verdicts` in a checkout, the user's cache when installed."""
    if (PACKAGE / "pyproject.toml").exists() or (PACKAGE / ".git").exists():
        return PACKAGE / ".deltaproof" / "verdicts"
    from platformdirs import user_cache_path

    return user_cache_path("deltaproof") / "verdicts"


def source_digest() -> str:
    """Hash of every source that a verdict depends on. One for all: too many re-runs are safe, too few are not."""
    digest = hashlib.sha256()
    files = [path for folder in _SOURCES for path in (PACKAGE / folder).rglob("*.py")]
    for path in sorted([*files, PACKAGE / "results" / "calibration.json"]):
        if path.is_file():
            digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
            digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Store:
    """Reads and writes verdicts under `folder`.

    warn: told, in one line, of entries that cannot be read. digest: of the sources when the run began.
    """

    folder: Path
    warn: Callable[[str], None] = lambda message: None
    digest: str = field(default_factory=source_digest)

    def key(self, *parts: str) -> str:
        """The name of an entry: `parts` name the cell and how it is judged; sources and versions are added."""
        tools = (platform.python_version(), *(f"{name}={installed_version(name)}" for name in _TOOLS))
        return hashlib.sha256("\0".join((self.digest, *tools, *parts)).encode()).hexdigest()

    def get(self, key: str) -> Verdict | None:
        """The verdict of an earlier run, marked as cached; None if there is none that can be read."""
        path = self._path(key)
        try:
            entry = json.loads(path.read_text())
            if entry["schema"] != SCHEMA or entry["key"] != key:
                raise ValueError("another schema or key")
            return replace(Verdict.from_json(entry["verdict"]), cached=True)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            reason = " ".join(str(error).split())[:120]
            self.warn(f"stored verdict {path.name} cannot be read ({reason}); judging again")
            return None

    def put(self, key: str, verdict: Verdict) -> None:
        """Write an entry, whole or not at all.

        Errors are not kept: the next run tries again. Nor is anything once sources have changed under the run, since
        nobody knows which of them a child process has read.
        """
        if verdict.status == "error" or source_digest() != self.digest:
            return
        path = self._path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        try:
            with os.fdopen(handle, "w") as file:
                json.dump({"schema": SCHEMA, "key": key, "verdict": verdict.to_json()}, file)
            os.replace(part, path)
        except BaseException:
            Path(part).unlink(missing_ok=True)
            raise

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
