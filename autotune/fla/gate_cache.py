"""Answers of the gate that need not be found again: one JSON file each, by everything that the answer depends on."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...results.digests.code import bytes_digest
from ...results.files.calibration import tau
from ...results.files.store import Store
from ...results.schema.strict import Fields
from ...verify.compile.fake_device import Facts
from ...verify.run.cache import source_digest
from ...verify.verdicts.document import installed_version
from ..foreign.questions import CallAnswer, CallQuestion

_TOOLS = ("torch", "triton", "numpy")
_TEXT = re.compile(r"(?s).*")


@dataclass(frozen=True, slots=True, kw_only=True)
class KeptAnswer:
    """An answer without its question, which its name stands for."""

    held: bool
    detail: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> KeptAnswer:
        """Reads `to_json` back. Raises ValueError for anything else."""
        fields = Fields(record, "not an answer")
        found = cls(held=fields.flag("held"), detail=fields.text("detail", _TEXT))
        fields.end()
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerCache(Store[KeptAnswer]):
    """Answers under a folder.

    facts: the GPU that FLA takes the judging processes for. package: FLA's folder, whose sources count.
    """

    facts: Facts
    package: Path

    kind, name, again, schema = KeptAnswer, "answer", "judging again", 3

    def key(self, question: CallQuestion) -> str:
        """Names a question as judged by these sources: equal names, equal answers."""
        tools = [f"{name}={installed_version(name)}" for name in (*_TOOLS, "fla-core")]
        package = bytes_digest(self.package, self.package.rglob("*.py"))
        about = [source_digest("autotune/fla/gate.py"), package, *tools, repr(tau()), repr(self.facts)]
        return hashlib.sha256("\0".join([*about, repr(question)]).encode()).hexdigest()

    def recall(self, key: str, question: CallQuestion) -> CallAnswer | None:
        """The answer under the name of a question; None if there is none that can be read."""
        found = self.get(key)
        return found and CallAnswer(question=question, held=found.held, detail=found.detail)

    def keep(self, key: str, answer: CallAnswer) -> None:
        """Keep an answer under the name that its question had when it was asked. Raises OSError.

        Not one of a crash or a timeout, nor one during which the sources changed: nobody knows which of them it is about.
        """
        if answer.final and self.key(answer.question) == key:
            self.put(key, KeptAnswer(held=answer.held is True, detail=answer.detail))
