"""Answers of the gate that need not be found again: one JSON file each, by everything that the answer depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from ...results.atomic import replace
from ...verify.store import source_digest
from . import pretend
from .gate import Answer, Question

SCHEMA = 1
_TOOLS = ("torch", "triton", "numpy")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdicts:
    """Reads and writes answers under `folder`.

    facts: the GPU that FLA takes the judging processes for. package: FLA's folder, whose sources count.
    warn: told, in one line, of files that cannot be used.
    """

    folder: Path
    facts: pretend.Facts
    package: Path
    warn: Callable[[str], None] = lambda message: None

    def name(self, question: Question) -> str:
        """Names a question as judged by these sources: equal names, equal answers."""
        tools = [f"{name}={_version(name)}" for name in (*_TOOLS, "fla-core")]
        about = [source_digest(), _digest(Path(__file__).parent), _digest(self.package), *tools, repr(self.facts)]
        return hashlib.sha256("\0".join([*about, repr(question)]).encode()).hexdigest()

    def get(self, question: Question) -> Answer | None:
        """The answer of an earlier run; None if there is none that can be read."""
        name = self.name(question)
        path = self._path(name)
        try:
            entry = json.loads(path.read_bytes())
            if entry["schema"] != SCHEMA or entry["name"] != name or type(entry["held"]) is not bool:
                raise ValueError("another schema or name")
            return Answer(question=question, held=entry["held"], detail=str(entry["detail"]))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            reason = " ".join(str(error).split())[:120]
            self.warn(f"{path}: cannot be read ({reason}); judging again")
            return None

    def put(self, answer: Answer, name: str) -> None:
        """Keep an answer under the name that its question had when it was asked. Raises OSError.

        Not one of a crash or a timeout, nor one during which the sources changed: nobody knows which of them it is about.
        """
        question = answer.question
        if not answer.final or self.name(question) != name:
            return
        choices = [[kernel, order, dict(kwargs)] for (kernel, order), kwargs in question.choices]
        entry = {"schema": SCHEMA, "name": name, "held": answer.held, "detail": answer.detail,
                 "call": str(question.call), "choices": choices}  # fmt: skip
        replace(self._path(name), json.dumps(entry) + "\n")

    def _path(self, name: str) -> Path:
        return self.folder / name[:2] / f"{name}.json"


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
