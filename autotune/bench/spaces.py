"""Recorded search spaces: every feasible configuration with its time, read with suspicion.

Three formats: Kernel Tuner's cache (JSON, a configuration per entry), T4 (JSON, a list of results), both plain or in gzip, and
the table of matrix products that `landscape` reads, of which every problem is a space and every set a family.
"""

from __future__ import annotations

import gzip
import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import lru_cache
from pathlib import Path
from typing import Any

from ...results.files.one_line import folded
from ...results.schema.strict import TableError
from ..search.study import Config, Space
from .gemm import GemmConfig
from .landscape import read_landscape

SUFFIXES = (".json.gz", ".json", ".csv.gz", ".csv")
_MOST = 1 << 30
"""Bytes that a recording may have when unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A space with the milliseconds of every feasible configuration; inf for a failure. samples: repeats, where recorded."""

    space: Space
    times: Mapping[Config, float]
    samples: Mapping[Config, Sequence[float]] = field(default_factory=dict)

    @property
    def optimum(self) -> float:
        return min(self.times.values())


@lru_cache(maxsize=2)
def read_spaces(path: Path) -> dict[str, Recorded]:
    """The spaces of a file, by name. Raises TableError, in one line, for a file that holds none."""
    if path.name.endswith((".csv", ".csv.gz")):
        return {
            f"{recording.name} {problem.M}x{problem.N}x{problem.K} {problem.dtype} {problem.strides}": product_space(
                times
            )
            for recording in read_landscape(path)
            for problem, times in recording.times.items()
        }
    try:
        content = _json(path)
        parameters, times, samples = _t4(content) if "results" in content else _cache(content)
        if not any(time < math.inf for time in times.values()):
            raise ValueError("nothing in it ran")
        space = Space(parameters=parameters, feasible=tuple(sorted(times, key=_order(parameters))))
    except (OSError, EOFError, ValueError, LookupError, TypeError, AttributeError, zlib.error, RecursionError) as error:
        raise TableError(f"{path}: not a recorded landscape ({_why(error)})") from None
    return {path.name.removesuffix(".gz").removesuffix(".json"): Recorded(space=space, times=times, samples=samples)}


def product_space(times: Mapping[GemmConfig, float]) -> Recorded:
    """The space of one problem of a landscape."""
    rows = {astuple(config): time for config, time in times.items()}
    names = [field.name for field in fields(GemmConfig)]
    parameters = {name: tuple(sorted({row[place] for row in rows})) for place, name in enumerate(names)}
    return Recorded(space=Space(parameters=parameters, feasible=tuple(sorted(rows))), times=rows)


def _json(path: Path) -> dict[str, Any]:
    with (gzip.open if path.name.endswith(".gz") else open)(path, "rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError(f"more than {_MOST} bytes")
    text = content.decode().rstrip().rstrip(",")
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        # A recording that was not closed properly lacks its last brackets.
        return json.loads(text + "}}")


def _why(error: Exception) -> str:
    """The fault of a recording, in words: Python's own error says nothing of a file but where its text breaks off."""
    match error:
        case RecursionError():
            return "it is nested too deeply"
        case KeyError():
            return f"no field {str(error.args[0])!r:.60}"
        case IndexError() | TypeError() | AttributeError():
            return "it has neither the fields of Kernel Tuner's cache nor those of T4"
        case UnicodeDecodeError():
            return "it is not UTF-8 text"
    return folded(error)[:200]


_Read = tuple[dict[str, tuple[object, ...]], dict[Config, float], dict[Config, tuple[float, ...]]]
"""Values of each parameter; the time, and the repeats, of each configuration."""


def _cache(content: dict[str, Any]) -> _Read:
    """Kernel Tuner's cache: it holds the feasible configurations, and one that failed has a text for a time."""
    names = list(content["tune_params_keys"])
    rows = {tuple(row[name] for name in names): row for row in content["cache"].values()}
    times = {config: _time(row["time"]) for config, row in rows.items()}
    ran = {config: row for config, row in rows.items() if times[config] < math.inf}
    samples = {config: tuple(map(_time, row["times"])) for config, row in ran.items() if row.get("times")}
    return {name: tuple(content["tune_params"][name]) for name in names}, times, samples


def _t4(content: dict[str, Any]) -> _Read:
    rows = [row for row in content["results"] if row["invalidity"] != "constraints"]
    names = list(rows[0]["configuration"])
    times = {}
    for row in rows:
        of = {one["name"]: one["value"] for one in row["measurements"]}
        held = row["invalidity"] == "correct"
        times[tuple(row["configuration"][name] for name in names)] = (
            _time(of[row["objectives"][0]]) if held else math.inf
        )
    return {name: tuple(_sorted({config[place] for config in times})) for place, name in enumerate(names)}, times, {}


def _time(value: object) -> float:
    """A time as recorded; anything but a number is the name of a failure."""
    if not isinstance(value, int | float):
        return math.inf
    if not value > 0:
        raise ValueError(f"a time of {value}")
    return float(value)


def _sorted(values: set[Any]) -> list[Any]:
    try:
        return sorted(values)
    except TypeError:
        return sorted(values, key=repr)


def _order(parameters: Mapping[str, tuple[object, ...]]):
    places = [{value: place for place, value in enumerate(values)} for values in parameters.values()]
    return lambda config: tuple(place[value] for place, value in zip(places, config, strict=True))
