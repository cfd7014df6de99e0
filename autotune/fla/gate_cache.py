"""Answers of the gate that need not be found again: one JSON file each, by everything that the answer depends on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...results.files.store import Store
from ...verify.run.cache import source_digest
from ..foreign.fake_device import Facts
from .gate import CallAnswer, CallQuestion

_TOOLS = ("torch", "triton", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCache(Store[CallAnswer]):
    """Answers under a folder.

    facts: the GPU that FLA takes the judging processes for. package: FLA's folder, whose sources count.
    """

    facts: Facts
    package: Path

    kind, name, again, schema = CallAnswer, "answer", "judging again", 2

    def key(self, question: CallQuestion) -> str:
        """Names a question as judged by these sources: equal names, equal answers."""
        tools = [f"{name}={_version(name)}" for name in (*_TOOLS, "fla-core")]
        about = [source_digest("autotune/fla/gate.py"), _digest(self.package), *tools, repr(self.facts)]
        return hashlib.sha256("\0".join([*about, repr(question)]).encode()).hexdigest()

    def put(self, key: str, result: CallAnswer) -> None:
        """Keep an answer under the name that its question had when it was asked. Raises OSError.

        Not one of a crash or a timeout, nor one during which the sources changed: nobody knows which of them it is about.
        """
        if result.final and self.key(result.question) == key:
            Store.put(self, key, result)


def _digest(folder: Path) -> str:
    """Of every Python file in a folder."""
    found = sorted(folder.rglob("*.py"))
    return _digest_of(folder, tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in found))


@lru_cache(maxsize=8)
def _digest_of(folder: Path, files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, _ in files:
        digest.update(f"{path.relative_to(folder).as_posix()}\0".encode())
        digest.update(path.read_bytes() + b"\0")
    return digest.hexdigest()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "unknown"
