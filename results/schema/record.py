"""The facts about one configuration: compiled, rejected, gated, estimated, ranked or measured.

Tables are derived from these.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from ..files.one_line import one_line
from .entry import resources_from_json, resources_to_json
from .gpus import Resources
from .instructions import Instructions, instructions_from_json, instructions_to_json
from .key import Key, key_from_json, key_to_json
from .strict import CONFIG, DIGEST, NAME, Fields, TableError, parse

SCHEMA = 1

Reason = Literal[
    "constraint",
    "compile",
    "resources",
    "spill",
    "race",
    "assembler",
    "duplicate",
    "gate",
    "timeout",
    "crash",
    "memory",
]
"""Why a configuration left: a declared constraint, the compiler refused it, it does not fit, it spills too much, its
compiled code has a known race, its assembler made wrong code of it, its machine code is that of another, it failed
verification, it hung, it crashed, it ran out of device memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """The common fields of every record. key: sizes are 0 where it holds for all. config: a launch configuration as a token.

    kernel: digest of the kernel sources. triton, driver: versions, "" where none was involved.
    """

    key: Key
    config: str
    kernel: str
    triton: str = ""
    driver: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled(About):
    """It compiled. stage: the part of it, "" for all. code: digest of the machine code.
    program: digest of the assembly without line tables. assembler: version of its assembler. Both "" in the first records.

    resources: registers are per program (`Resources.of`). stack: bytes per thread, spills included.
    tensor_core: families of tensor-core instructions in it. seconds: the time of compiling. instructions: counted in the machine
    code; None in the first records, and where they cannot be counted.
    """

    stage: str = ""
    resources: Resources
    stack: int
    tensor_core: tuple[str, ...] = ()
    code: str
    program: str = ""
    assembler: str = ""
    seconds: float
    instructions: Instructions | None = None


def _fold_detail(record: Rejected | Gated) -> None:
    object.__setattr__(record, "detail", one_line(record.detail))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejected(About):
    """It left. stage: the part of it that did not survive compiling, "" for all of it.

    detail: one line. For `memory` only this key is at fault, otherwise every size and option of it.
    """

    reason: Reason
    stage: str = ""
    detail: str = ""

    __post_init__ = _fold_detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Gated(About):
    """It was verified.

    In the interpreter, with K = V = 0: the arithmetic of all configurations with this variant, chunk size and solver. Compiled:
    the programs that the compiler makes of it for this GPU were run on a CPU under these schedules and compared with the error
    budget; without schedules they were only searched for known hazards.

    evidence: names the question and all that the answer depends on; equal names, equal answers. "" where the next run asks again.
    program: digest of the programs that were run. assembler: version of the assembler that would have been used. "" where nothing
    ran.
    """

    where: Literal["device", "compiled", "interpreter"]
    held: bool
    detail: str = ""
    evidence: str = ""
    schedules: tuple[str, ...] = ()
    program: str = ""
    assembler: str = ""

    __post_init__ = _fold_detail


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimated(About):
    """The cost model's prediction for the whole op on a GPU that was not there. milliseconds: predicted.

    ranking: the one that it is part of.
    """

    milliseconds: float
    resources: Resources
    ranking: str = ""

    def __post_init__(self) -> None:
        _require_size(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking(About):
    """From here on the estimates that name this ranking count for the key, and no others. Its config is "-"."""

    config: str = "-"
    ranking: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(About):
    """The whole op, timed. samples: milliseconds, in order. clocks: MHz of the multiprocessors beside them, or empty.

    device: the name that the device gives itself. protocol: how it was timed, by name and version.
    """

    samples: tuple[float, ...]
    clocks: tuple[float, ...] = ()
    device: str
    protocol: str
    resources: Resources

    def __post_init__(self) -> None:
        _require_size(self.key)
        if not self.samples:
            raise ValueError("a measurement without samples")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unexplored(About):
    """A budget ended with `count` configurations of this key not looked at; 0 once they were. Its config is "-"."""

    config: str = "-"
    count: int


Record = Compiled | Rejected | Gated | Estimated | Ranking | Measured | Unexplored
_OF_RUNS = ("schedules", "program", "assembler")
KINDS: dict[str, type[Record]] = {kind.__name__.lower(): kind for kind in get_args(Record)}


def _require_size(key: Key) -> None:
    if not key.complete:
        raise ValueError(f"key {key}: a time is of one size, not of all")


def record_to_line(record: Record) -> str:
    """One line of JSON, without its end."""
    values = {field.name: getattr(record, field.name) for field in fields(record) if field.name != "key"}
    if isinstance(record, Gated):
        # Fields that the first verdicts did not have are left out where they are empty: their lines, and digests, stay.
        values = {name: value for name, value in values.items() if value or name not in _OF_RUNS}
    if (counted := values.pop("instructions", None)) is not None:
        values["instructions"] = instructions_to_json(counted)
    if "resources" in values:
        values["resources"] = resources_to_json(values["resources"])
    line = {"schema": SCHEMA, "kind": type(record).__name__.lower()} | key_to_json(record.key) | values
    return json.dumps(line, allow_nan=False)


def record_from_line(line: str, where: str) -> Record:
    """Reads `record_to_line` back. Raises TableError."""
    row = Fields(parse(line, where), where)
    if (schema := row.whole("schema")) != SCHEMA:
        raise TableError(f"{where}: field 'schema' is {schema}, this version of deltaproof reads {SCHEMA}")
    kind = KINDS[row.choice("kind", KINDS)]
    key = key_from_json(row)
    values = {field.name: _READERS[field.name](row, field.name) for field in fields(kind) if field.name != "key"}
    row.end()
    return row.made(kind, key=key, **values)


_SCHEDULE = re.compile(r"[ -~]{1,80}")

_READERS: dict[str, Callable[[Fields, str], Any]] = {
    "config": lambda row, name: row.text(name, CONFIG),
    "kernel": lambda row, name: row.text(name, DIGEST),
    "triton": lambda row, name: row.text(name, NAME, empty=True),
    "driver": lambda row, name: row.text(name, NAME, empty=True),
    "stage": lambda row, name: row.text(name, NAME, empty=True),
    "resources": lambda row, name: resources_from_json(row.object(name)),
    "stack": Fields.whole,
    "tensor_core": lambda row, name: row.texts(name, NAME),
    "code": lambda row, name: row.text(name, DIGEST),
    "program": lambda row, name: row.text(name, DIGEST, empty=True) if name in row.names else "",
    "assembler": lambda row, name: row.text(name, NAME, empty=True) if name in row.names else "",
    "seconds": Fields.number,
    "instructions": lambda row, name: instructions_from_json(row.object(name)) if name in row.names else None,
    "reason": lambda row, name: row.choice(name, get_args(Reason)),
    "detail": Fields.prose,
    "where": lambda row, name: row.choice(name, ("device", "compiled", "interpreter")),
    "evidence": lambda row, name: row.text(name, DIGEST, empty=True) if name in row.names else "",
    "schedules": lambda row, name: row.texts(name, _SCHEDULE) if name in row.names else (),
    "held": Fields.flag,
    "milliseconds": Fields.number,
    # The first estimates did not name their ranking.
    "ranking": lambda row, name: row.text(name, DIGEST, empty=True) if name in row.names else "",
    "samples": Fields.numbers,
    "clocks": Fields.numbers,
    "device": Fields.prose,
    "protocol": lambda row, name: row.text(name, NAME),
    "count": Fields.whole,
}
"""How each field is read, whichever kind of record has it."""


def record_digest(record: Record) -> str:
    """Names a record: 16 hexadecimal digits, equal for equal records."""
    return hashlib.sha256(record_to_line(record).encode()).hexdigest()[:16]
