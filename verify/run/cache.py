"""Verdicts that need not be reached again: one JSON file per cell, keyed by everything the verdict depends on."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path

from ...results.digests.sources import Sources, module_digest
from ...results.files.checkout import checkout
from ...results.files.store import Store
from ..verdicts.document import SCHEMA, installed_version
from ..verdicts.verdict import Verdict

PACKAGE = Path(__file__).resolve().parents[2]
"""The folder that holds kernels, specs and verify: the repository, or the installed package."""

JUDGING = ("verify/run/judge.py", "verify/run/worker.py", "verify/properties", "verify/interpreter")
"""The code that judges, as files and folders of the package; their imports count too."""
_NOT_JUDGING = tuple(f"results/{room}/" for room in ("serve", "evidence", "digests", "export"))
"""Kernels look tables up, but not when they are judged."""
_SOURCES = ("kernels", "specs", "verify", "autotune", "results")
_TOOLS = ("torch", "triton", "numpy", "hypothesis")


def default_folder(name: str = "verdicts") -> Path:
    """`.deltaproof/NAME` in a checkout, a folder of that name in the user's cache when installed."""
    if root := checkout():
        return root / ".deltaproof" / name
    from platformdirs import user_cache_path

    return user_cache_path("deltaproof") / name


def source_digest(*more: str) -> str:
    """Names the sources that a verdict depends on; their comments, docstrings, names of locals and places do not count.

    more: other files and folders of the package whose code counts, and their imports. Reports and command lines do not count,
    unless judging imports them. Raises TableError for a file that is not Python.
    """
    return _digest(_bytes(), PACKAGE, more)


@lru_cache(maxsize=16)
def _digest(_bytes: str, package: Path, more: tuple[str, ...]) -> str:
    """`source_digest`, which parses a few hundred files, once for files with these bytes."""
    places = [package / place for place in (*JUDGING, *more)]
    roots = [
        path
        for place in places
        for path in ([place] if place.suffix else sorted(place.rglob("*.py")))
        if path.is_file()
    ]
    names = {path: path.relative_to(package.resolve()).as_posix() for path in Sources().files(roots)}
    reached = [path for path, name in names.items() if not name.startswith(_NOT_JUDGING)]
    words = sorted(module_digest(path) for path in reached)
    calibration = package / "results" / "calibration.json"
    if calibration.is_file():
        words.append(hashlib.sha256(calibration.read_bytes()).hexdigest())
    return hashlib.sha256(" ".join(words).encode()).hexdigest()


def _bytes() -> str:
    digest = hashlib.sha256()
    for path in _files():
        digest.update(f"{path.relative_to(PACKAGE).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _files() -> Iterator[Path]:
    yield from sorted(path for folder in _SOURCES for path in (PACKAGE / folder).rglob("*.py"))
    if (calibration := PACKAGE / "results" / "calibration.json").is_file():
        yield calibration


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

        Errors are not kept: the next run tries again. Nor is anything once sources have changed under the run, since
        nobody knows which of them a child process has read.
        """
        if result.status != "error" and source_digest() == self.digest:
            Store.put(self, key, result)
