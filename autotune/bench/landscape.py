"""Reads recorded landscapes of matrix products, with suspicion.

A table (CSV, or CSV compressed with gzip) with the columns set, gpu, problem, config and median_ms, one row per problem and
configuration; others are ignored. A time of inf is a failure.
"""

from __future__ import annotations

import csv
import gzip
import io
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ...results.schema.strict import TableError
from .gemm import GemmConfig, GemmProblem

COLUMNS = ("set", "gpu", "problem", "config", "median_ms")
_MOST = 1 << 28
"""Bytes that a landscape may have when unpacked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One set of timings of one GPU. times: milliseconds by problem and configuration; inf for a failure."""

    name: str
    gpu: str
    times: Mapping[GemmProblem, Mapping[GemmConfig, float]]


def read_landscape(path: Path) -> list[Recording]:
    """The sets of a file, in its order, with the problems that the template is for and that have two times or more.

    Raises TableError, in one line, for a file that is no such landscape, or only the beginning of one.
    """
    sets: dict[tuple[str, str], dict[GemmProblem, dict[GemmConfig, float]]] = {}
    try:
        rows = csv.DictReader(io.StringIO(_text(path)), strict=True, restkey="more")
        if missing := [name for name in COLUMNS if name not in (rows.fieldnames or ())]:
            raise ValueError(f"no column {missing[0]!r}")
        for row in rows:
            if "more" in row or any(row[name] is None for name in COLUMNS):
                raise ValueError(f"line {rows.line_num} has another number of fields than the first line")
            problem, config = GemmProblem.parse(row["problem"]), GemmConfig.parse(row["config"])
            time = float(row["median_ms"])
            if not time > 0:
                raise ValueError(f"line {rows.line_num}: a time of {row['median_ms']}")
            if config and problem.judged:
                times = sets.setdefault((row["set"], row["gpu"]), {}).setdefault(problem, {})
                times[config] = min(time, times.get(config, math.inf))
    except (OSError, EOFError, ValueError, zlib.error, csv.Error) as error:
        raise TableError(f"{path}: not a recorded landscape ({error})") from None
    recordings = []
    for (name, gpu), problems in sets.items():
        kept = {problem: times for problem, times in problems.items() if _ranked(times)}
        if kept:
            recordings.append(Recording(name=name, gpu=gpu, times=kept))
    if not recordings:
        raise TableError(f"{path}: no problem in 16 bits with two timed configurations of the template")
    return recordings


def _text(path: Path) -> str:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    with (gzip.open if packed else open)(path, "rb") as file:
        content = file.read(_MOST + 1)
    if len(content) > _MOST:
        raise ValueError(f"more than {_MOST} bytes")
    if not content.endswith(b"\n"):
        raise ValueError("the last line is cut off")
    return content.decode()


def _ranked(times: Mapping[GemmConfig, float]) -> bool:
    return sum(time < math.inf for time in times.values()) > 1
