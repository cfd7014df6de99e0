"""The outcome of compiling one program, and the files that keep it.

A file's key is the digest of the program's kernel, specialised, with all that it calls: calls, rules and ops that share a program
share its compilation, and an edited kernel is another key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from ...results.files.store import Store
from ...results.schema.instructions import Instructions, instructions_from_json, instructions_to_json
from ...results.schema.strict import DIGEST, NAME, Fields
from ..run.cache import default_folder

CompileOutcome = Literal["compiled", "compile", "timeout", "crash"]
"""It compiled; the compiler refused it; it did not end in time; it took the compiling process down."""

_TEXT = re.compile(r"(?s).{0,10000}")
_MOST = 1 << 24
"""No program has as much of anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """Outcome of compiling one program for one architecture.

    detail: the compiler's words where it failed. seconds: wall time. cpu: seconds of processor time, the assembler's included.
    shared: bytes per program. registers, stack (bytes, spills included): per thread. threads: per program.
    tensor_core: instructions by family. code: digest of the machine code. program: digest of the assembly without its line
    tables. assembler: version of the assembler, "" where the compiler itself assembled it. hazard: of the compiled code, in one
    line; "" where none is known. misassembled: the assembler's error, likewise. traits: of the assembly, see `traits.py`.
    instructions: counted in the machine code; None where they cannot be.
    """

    outcome: CompileOutcome
    seconds: float
    cpu: float = 0.0
    detail: str = ""
    shared: int = 0
    registers: int = 0
    stack: int = 0
    threads: int = 0
    tensor_core: Mapping[str, int] = field(default_factory=dict)
    code: str = ""
    program: str = ""
    assembler: str = ""
    hazard: str = ""
    misassembled: str = ""
    traits: tuple[str, ...] = ()
    instructions: Instructions | None = None

    def __post_init__(self) -> None:
        if self.outcome not in get_args(CompileOutcome):
            raise ValueError(f"outcome {self.outcome!r} is not one of {', '.join(get_args(CompileOutcome))}")
        if (self.outcome == "compiled") != bool(self.code):
            raise ValueError(f"outcome {self.outcome!r} with machine code {self.code!r}")
        if self.outcome == "compiled" and not self.threads:
            raise ValueError("a program without threads")

    @property
    def final(self) -> bool:
        """It will end so again: a crash or a timeout may be this machine's fault."""
        return self.outcome in ("compiled", "compile")

    def to_json(self) -> dict[str, Any]:
        counted = self.instructions and instructions_to_json(self.instructions)
        return asdict(replace(self, instructions=None)) | {"traits": list(self.traits), "instructions": counted}

    @classmethod
    def from_json(cls, record: Any) -> Compilation:
        """Reads `to_json` back. Raises ValueError for anything else."""
        fields = Fields(record, "not a compilation")
        products = fields.object("tensor_core")
        found = fields.made(
            cls,
            outcome=fields.choice("outcome", get_args(CompileOutcome)),
            seconds=fields.number("seconds"),
            cpu=fields.number("cpu"),
            detail=fields.text("detail", _TEXT, empty=True),
            tensor_core={name: products.whole(name) for name in products.names if NAME.fullmatch(name)},
            code=fields.text("code", DIGEST, empty=True),
            program=fields.text("program", DIGEST, empty=True),
            assembler=fields.text("assembler", NAME, empty=True),
            hazard=fields.text("hazard", _TEXT, empty=True),
            misassembled=fields.text("misassembled", _TEXT, empty=True),
            traits=fields.texts("traits", NAME),
            instructions=fields.object_or_null("instructions", instructions_from_json),
            **{name: fields.whole(name, most=_MOST) for name in ("shared", "registers", "stack", "threads")},
        )
        products.end()
        fields.end()
        return found


def compiled_folder() -> Path:
    """`.deltaproof/compiled` in a checkout, the user's cache when installed."""
    return default_folder("compiled")


class Cache(Store[Compilation]):
    """Compilations under a folder."""

    __slots__ = ()
    kind, name, again, schema = Compilation, "compilation", "compiling again", 4

    def put(self, key: str, result: Compilation) -> None:
        """Keep a compilation that is final. Raises OSError."""
        if result.final:
            Store.put(self, key, result)
