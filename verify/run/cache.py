"""Verdicts that need not be reached again: one JSON file per cell, keyed by everything the verdict depends on."""

from __future__ import annotations

import hashlib
import platform
from dataclasses import dataclass, field, replace
from pathlib import Path

from ...results.digests.code import code_digest
from ...results.files.checkout import checkout
from ...results.files.store import Store
from ..verdicts.document import SCHEMA, installed_version
from ..verdicts.judgement import Verdict

JUDGING = ("verify/run/judge.py", "verify/run/worker.py", "verify/properties", "verify/interpreter")
"""The code that judges, as files and folders of the package; their imports count too."""
NOT_JUDGING = tuple(f"results/{room}" for room in ("serve", "evidence", "digests", "export"))
"""Kernels look tables up, but not when they are judged."""
_TOOLS = ("torch", "triton", "numpy", "hypothesis")


def default_folder(name: str = "verdicts") -> Path:
    """`.deltaproof/NAME` in a checkout, a folder of that name in the user's cache when installed."""
    if root := checkout():
        return root / ".deltaproof" / name
    from platformdirs import user_cache_path

    return user_cache_path("deltaproof") / name


def source_digest(*more: str) -> str:
    """Names the sources that a verdict depends on, as `code_digest` does.

    more: other files and folders of the package whose code counts, and their imports. Reports and command lines do not count,
    unless judging imports them. Raises TableError for a file that is not Python.
    """
    return code_digest(*JUDGING, *more, without=NOT_JUDGING)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerdictStore(Store[Verdict]):
    """Reads and writes verdicts. digest: of the sources when the run began."""

    digest: str = field(default_factory=source_digest)

    kind, name, again, schema = Verdict, "verdict", "judging again", SCHEMA

    def key(self, *parts: str) -> str:
        """The name of an entry: `parts` name the cell and how it is judged; sources and versions are added."""
        tools = (platform.python_version(), *(f"{name}={installed_version(name)}" for name in _TOOLS))
        return hashlib.sha256("\0".join((self.digest, *tools, *parts)).encode()).hexdigest()

    def get(self, key: str) -> Verdict | None:
        """The verdict of an earlier run, marked as cached; None if there is none that can be read."""
        found = Store.get(self, key)
        return None if found is None else replace(found, cached=True)

    def put(self, key: str, result: Verdict) -> None:
        """Keep a verdict, whole or not at all. Raises OSError.

        Errors, and what could not be judged, are not kept: the next run tries again. Nor is anything once sources have
        changed under the run, since nobody knows which of them a child process has read.
        """
        if result.status not in ("error", "unsupported") and source_digest() == self.digest:
            Store.put(self, key, result)
