"""The table of somebody else's autotuned kernels for one GPU: the autotuner's choices, and why to believe them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from .strict import DIGEST, NAME, Fields, TableError, parse

SCHEMA = 1
Gate = Literal["compiled", "none"]
_TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*", re.ASCII)
_KERNEL = re.compile(r"[A-Za-z_]\w{0,199}", re.ASCII)
_TEXT = re.compile(r"[ -~]{0,200}")
CALL = re.compile(r"its own|[a-z0-9_]+ (?:bf16|fp16|fp32) \d{1,4}(?: full)?", re.ASCII)
_LEAST = {"num_warps": 1, "num_stages": 0, "num_ctas": 1}

Key = tuple[str | int | float | bool | None, ...]
"""As Triton makes it: the values of the autotuner's key arguments, then the dtype of every tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A configuration and its outcome. outcome: "chosen", "ranked", "refused" by the gate, or why it was not ranked.

    score: time relative to others of the kernel, as its resources suggest; None where it was not ranked.
    """

    config: Mapping[str, Any]
    outcome: str
    score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetEntry:
    """One configuration of one kernel, under every key that it was chosen for.

    source: of the kernel, as Triton digests it; it holds for no other. config: the arguments of `triton.Config`.
    gate: "compiled", it ran as compiled without a fault; "none", that could not be told. detail: the judgement in a line.
    offered: the outcome of every configuration that the kernel offers there.
    """

    kernel: str
    source: str
    keys: tuple[Key, ...]
    config: Mapping[str, Any]
    gate: Gate
    detail: str
    offered: tuple[Offer, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetTable:
    """target: "module:function". package: its distribution and version, "" for none. triton: the version that compiled.

    calls: that were tuned, "gla bf16 128" or "gla bf16 128 full", or "its own" of a function without arguments.
    """

    target: str
    package: str
    gpu: str
    triton: str
    calls: tuple[str, ...]
    entries: tuple[TargetEntry, ...]

    @property
    def name(self) -> str:
        """The name of its file, without a suffix."""
        return file_name(self.target)


def file_name(target: str) -> str:
    """The name of a target's file, without a suffix."""
    return target.replace(":", ".")


def dumps(table: TargetTable) -> str:
    """The text of a table, an entry a line."""
    rows = ",\n".join(json.dumps(_row(entry)) for entry in table.entries)
    head = {
        "schema": SCHEMA, "target": table.target, "package": table.package, "gpu": table.gpu, "triton": table.triton,
        "how": "compiled and ranked by resources; not timed", "calls": list(table.calls),
    }  # fmt: skip
    lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items())
    return "{\n" + lines + ',\n"entries": [\n' + rows + "\n]\n}\n"


def loads(text: str, where: str) -> TargetTable:
    """Reads `dumps` back. Raises TableError for anything else."""
    fields = Fields(parse(text, where), where)
    if (schema := fields.whole("schema")) != SCHEMA:
        raise TableError(f"{where}: field 'schema' is {schema}, this version of deltaproof reads {SCHEMA}")
    fields.prose("how")
    found = TargetTable(
        target=fields.text("target", _TARGET), package=fields.prose("package"), gpu=fields.text("gpu", NAME),
        triton=fields.text("triton", NAME), calls=fields.texts("calls", CALL),
        entries=tuple(_entry(row) for row in fields.objects("entries", "entry")),
    )  # fmt: skip
    fields.end()
    return found


def _row(entry: TargetEntry) -> dict[str, Any]:
    return {
        "kernel": entry.kernel, "source": entry.source, "keys": [list(key) for key in entry.keys],
        "config": dict(entry.config), "gate": entry.gate, "detail": entry.detail,
        "offered": [{"config": dict(one.config), "outcome": one.outcome, "score": one.score} for one in entry.offered],
    }  # fmt: skip


def _entry(fields: Fields) -> TargetEntry:
    keys = fields.raw("keys")
    if not (isinstance(keys, list) and keys and all(isinstance(key, list) and all(map(_plain, key)) for key in keys)):
        raise TableError(
            f"{fields.where}: field 'keys' must be a list of lists of strings, numbers, true, false and null"
        )
    entry = TargetEntry(
        kernel=fields.text("kernel", _KERNEL),
        source=fields.text("source", DIGEST),
        keys=tuple(map(tuple, keys)),
        config=_config(fields.object("config")),
        gate=fields.choice("gate", get_args(Gate)),
        detail=fields.prose("detail"),
        offered=tuple(_offer(one) for one in fields.objects("offered", "configuration")),
    )
    fields.end()
    return entry


def _offer(fields: Fields) -> Offer:
    made = Offer(
        config=_config(fields.object("config")), outcome=fields.text("outcome", _TEXT),
        score=fields.number_or_null("score"),
    )  # fmt: skip
    fields.end()
    return made


def _config(fields: Fields) -> dict[str, Any]:
    """Arguments of `triton.Config`."""
    blocks = fields.raw("kwargs")
    if not (isinstance(blocks, dict) and all(_KERNEL.fullmatch(name) and _plain(x) for name, x in blocks.items())):
        raise TableError(f"{fields.where}: field 'kwargs' must have strings, numbers, true, false and null by name")
    found: dict[str, Any] = {"kwargs": blocks}
    found |= {name: fields.whole(name, least, 1024) for name, least in _LEAST.items()}
    if fields.peek("maxnreg") is not None:
        found["maxnreg"] = fields.whole("maxnreg", 1, 1024)
    fields.end()
    return found


def _plain(value: Any) -> bool:
    if isinstance(value, str):
        return bool(_TEXT.fullmatch(value))
    return value is None or type(value) in (int, float, bool)
