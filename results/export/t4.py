"""Records as T4, the results format that Kernel Tuner and the public collections of autotuning data share; and back.

The schema: github.com/odgaard/TuningSchema, results-schema.json 1.0.0. One file is one landscape: one key on one GPU.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeGuard, get_args

from ..schema.key import Key
from ..schema.record import Compiled, Estimated, Gated, Measured, Ranking, Reason, Record, Rejected
from ..schema.strict import TableError
from ..schema.token import split

VERSION = "1.0.0"

Invalidity = Literal["timeout", "compile", "runtime", "correctness", "constraints", "correct"]

_INVALIDITIES: tuple[Any, ...] = get_args(Invalidity)
_INVALIDITY: dict[Reason, Invalidity] = {
    "constraint": "constraints",
    "compile": "compile",
    "resources": "constraints",
    "spill": "constraints",
    "race": "correctness",
    "assembler": "correctness",
    "duplicate": "constraints",
    "gate": "correctness",
    "timeout": "timeout",
    "crash": "runtime",
    "memory": "runtime",
}

Parameters = Mapping[str, str | int]


@dataclass(frozen=True, slots=True, kw_only=True)
class T4Result:
    """One configuration of a T4 file.

    parameters: by name. samples: milliseconds; empty unless invalidity is "correct".
    """

    parameters: dict[str, Any]
    invalidity: Invalidity
    samples: tuple[float, ...]


def token_parameters(config: str) -> dict[str, str | int]:
    """The settings that a token spells out; of "c64,states=32x4x2": chunk_size, states_block, states_warps and states_depth.

    What a token leaves at its default is not there; pass `to_t4` a function that fills it in.
    """
    chunk, settings = split(config)
    values: dict[str, str | int] = {"chunk_size": int(chunk[1:]) if chunk[1:].isdigit() else chunk}
    for name, value in settings.items():
        sizes = value.split("x")
        if len(sizes) == 3 and all(map(str.isdigit, sizes)):
            values |= dict(zip((f"{name}_block", f"{name}_warps", f"{name}_depth"), map(int, sizes), strict=True))
        else:
            values[name] = value
    return values


def to_t4(
    records: Iterable[Record], key: Key, parameters: Callable[[str], Parameters] = token_parameters
) -> dict[str, Any]:
    """A T4 document with everything that is known of the configurations of one key, the last word on each.

    Where nothing was timed, what the last ranking estimated stands as a measurement of that name, and there are no
    runtimes. What broke a rule as one Triton compiles it, and none as another does, is not incorrect.
    """
    asked = [one for one in records if _same_subject(one.key, key)]
    passed = {one.config for one in asked if _judged_as_compiled(one) and one.held}
    rankings = [one.ranking for one in asked if isinstance(one, Ranking)]
    results: dict[str, dict[str, Any]] = {}
    compile_seconds: dict[str, float] = {}
    for record in asked:
        if _judged_as_compiled(record) and record.config in passed:
            continue
        if isinstance(record, Compiled):
            compile_seconds[record.config] = compile_seconds.get(record.config, 0.0) + record.seconds
        elif isinstance(record, Estimated) and record.ranking != (rankings[-1] if rankings else ""):
            continue
        elif (result := _result(record, key)) is not None:
            results[record.config] = {"configuration": dict(parameters(record.config))} | result
    for config, result in results.items():
        result["times"]["compilation_time"] = 1000 * compile_seconds.get(config, 0.0)
    return {
        "schema_version": VERSION,
        "metadata": {"timeunit": "milliseconds", "problem": str(key)},
        "results": [results[config] for config in sorted(results)],
    }


def from_t4(document: Any) -> tuple[T4Result, ...]:
    """The configurations of a T4 document from any tuner. Raises TableError."""
    if not isinstance(document, dict) or not isinstance(document.get("results"), list):
        raise TableError("not a T4 document: no list 'results'")
    if (version := document.get("schema_version")) != VERSION:
        raise TableError(f"T4: field 'schema_version' is {ascii(version)[:60]}, expected {VERSION!r}")
    return tuple(_read(result, f"T4: result {index}") for index, result in enumerate(document["results"]))


def _result(record: Record, key: Key) -> dict[str, Any] | None:
    match record:
        case Measured() if record.key == key:
            median = statistics.median(record.samples)
            return _row("correct", list(record.samples), "time", {"name": "time", "value": median, "unit": "ms"})
        case Estimated() if record.key == key:
            guess = {"name": "estimate", "value": record.milliseconds, "unit": "ms"}
            return _row("correct", [], "estimate", guess)
        case Rejected():
            reason = {"name": "reason", "value": f"{record.reason}: {record.detail}", "unit": ""}
            return _row(_INVALIDITY[record.reason], [], "time", reason)
        case Gated(held=False):
            return _row("correctness", [], "time", {"name": "reason", "value": record.detail, "unit": ""})
    return None


def _judged_as_compiled(record: Record) -> TypeGuard[Gated]:
    return isinstance(record, Gated) and record.where == "compiled"


def _row(invalidity: Invalidity, runtimes: list[float], objective: str, measurement: dict[str, Any]) -> dict[str, Any]:
    return {
        "times": {"runtimes": runtimes},
        "invalidity": invalidity,
        "correctness": 0 if invalidity == "correctness" else 1,
        "measurements": [measurement],
        "objectives": [objective],
    }


def _same_subject(found: Key, key: Key) -> bool:
    """Whether a record speaks of this key: for it alone, or for all sizes."""
    same = (found.op, found.rule, found.dtype) == (key.op, key.rule, key.dtype)
    sizes = ((found.K, key.K), (found.V, key.V), (found.tokens, key.tokens), (found.heads, key.heads))
    return same and all(have in (0, want) for have, want in sizes)


def _read(result: Any, where: str) -> T4Result:
    if not isinstance(result, dict):
        raise TableError(f"{where}: not an object")
    configuration, times = result.get("configuration"), result.get("times")
    invalidity: Any = result.get("invalidity")
    if not isinstance(configuration, dict) or not isinstance(times, dict):
        raise TableError(f"{where}: fields 'configuration' and 'times' must be objects")
    if invalidity not in _INVALIDITIES:
        raise TableError(f"{where}: field 'invalidity' must be one of {', '.join(_INVALIDITIES)}")
    samples = times.get("runtimes", [])
    if not isinstance(samples, list) or not all(type(sample) in (int, float) and sample >= 0 for sample in samples):
        raise TableError(f"{where}: field 'times.runtimes' must be a list of numbers")
    return T4Result(parameters=configuration, invalidity=invalidity, samples=tuple(map(float, samples)))
