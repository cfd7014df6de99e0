"""A `Verdict` is the outcome of verification for one kernel, one rule and one property. It travels as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from typing import Any, Literal, get_args, get_type_hints

from ..cases.target_names import OWN
from .strict import typed

Status = Literal["held", "failed", "unsupported", "error", "inapplicable"]
"""unsupported: it applies, but no case got an answer. error: judging broke. inapplicable: there is no such thing to judge."""
Kind = Literal["structure", "memory", "instability", "precision", "causality", "nondeterminism", "launch", "contract"]
Arithmetic = Literal["exact", "faithful", "bounds", "device", "none", "sm_80", "sm_86", "sm_89", "sm_90"]
"""The arithmetic in which a kernel ran. An architecture: as compiled for it, on the CPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counterexample:
    """The smallest failing call found, and where in it the error shows.

    problem, config: tokens that `Problem.parse` and `LaunchConfig.parse` read back; config is "-" where there is none.
    tensor, index: name of the output and full index of its worst (or first) wrong element.
    token, head, channel: the same place in the model's words; None where the tensor has no such axis.
    expected, got: the two numbers there. In exact arithmetic they are elements of the field.
    replay: the token that `verify replay` takes.
    stage: the first stage, or kernel, that is at fault, where that could be found; story: why, and more in plain words.
    """

    problem: str
    config: str
    message: str
    replay: str
    tensor: str | None = None
    index: tuple[int, ...] | None = None
    token: int | None = None
    head: int | None = None
    channel: int | None = None
    expected: float | None = None
    got: float | None = None
    stage: str | None = None
    story: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """One kernel judged by one property on one rule.

    kind: the sort of failure, for `failed` only. worst_ratio: the largest error over its budget, where there is one.
    problems, configs: cases that were judged, and the launch configurations that they ran with.
    seconds: time spent on judging. cached: read from the store, not run.
    notes: why nothing, or not everything, could be judged; the text of an error.
    ratios: (regime, tensor, largest error over its budget), where errors are measured tensor by tensor.
    worst: replay token of the case with worst_ratio.
    covered: the coverage of its cases (`cases.coverage`).

    Raises ValueError for a status or kind that does not exist, and for a failure without kind or counterexample.
    """

    kernel: str
    rule: str
    target: str
    property: str
    arithmetic: Arithmetic
    status: Status
    problems: int
    seconds: float
    kind: Kind | None = None
    worst_ratio: float | None = None
    counterexample: Counterexample | None = None
    configs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    cached: bool = False
    ratios: tuple[tuple[str, str, float], ...] = ()
    worst: str | None = None
    covered: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("status", self.status, get_args(Status)),
            ("arithmetic", self.arithmetic, get_args(Arithmetic)),
            ("kind", self.kind, (None, *get_args(Kind))),
        ):
            if value not in choices:
                raise ValueError(f"{name} {value!r} is not one of {', '.join(map(str, choices))}")
        if (self.status == "failed") != (self.kind is not None) or (
            self.status == "failed" and self.counterexample is None
        ):
            raise ValueError(f"status {self.status!r} with kind {self.kind!r}: a failure, and only it, has both a kind "
                             "and a counterexample")  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """A dict of JSON values. JSON has no NaN and no infinity: they become the strings "nan", "inf", "-inf"."""
        return _encode(asdict(self))

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> Verdict:
        """Read `to_json` back. Raises ValueError for anything that is not a verdict."""
        if isinstance(record, Mapping) and record.get("counterexample") is not None:
            found = Counterexample(**_known(Counterexample, record["counterexample"]))
            record = {**record, "counterexample": found}
        return cls(**_known(cls, record))


def is_compiled(device: str) -> bool:
    """Whether a device, or an arithmetic, is a GPU by architecture, "sm_90", whose programs run on the CPU."""
    return device.startswith("sm_")


def replay_line(target: str, token: str, arithmetic: str = "") -> str:
    """The command that judges a case again, in the arithmetic of a verdict if that is an architecture."""
    place = f" --device {arithmetic}" if is_compiled(arithmetic) else ""
    return f"verify replay{'' if target == OWN else f' --target {target}'}{place} '{token}'"


def _known(kind: type, record: Any) -> dict[str, Any]:
    """The fields of a record, in their types; readers survive fields that later versions add."""
    if not isinstance(record, Mapping):
        raise ValueError(f"not a {kind.__name__.lower()}: {record!a:.60}")
    hints = _hints(kind)
    values = {}
    for field in fields(kind):
        if field.name in record:
            values[field.name] = typed(field.name, record[field.name], hints[field.name])
        elif field.default is MISSING:
            raise ValueError(f"{kind.__name__.lower()} without {field.name}")
    return values


_hints = cache(get_type_hints)


def _encode(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _encode(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_encode(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
