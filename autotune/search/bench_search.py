"""The search itself under test: recorded timings of real kernels replayed, and every method judged on the same budget."""

from __future__ import annotations

import gzip
import json
import math
import statistics
from functools import lru_cache
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from ...results.schema.strict import TableError
from ...verify.process.pool import Failure, Workers
from ..compile.stage import Progress
from .propose import Trials, draw, plain, search
from .study import Config, Space, Timing

SCHEMA = 1
BUDGETS = (50, 100, 200)
METHODS = {"random": draw, "tpe": plain, "deltaproof": search}
ANYTIME = {"random", "tpe"}
"""Methods that do not ask for their budget: one run serves every budget."""
SECONDS = 3600.0


def bench(folder: Path, *, seeds: int, budget: int, jobs: int, progress: Progress) -> dict[str, Any]:
    """For every landscape, method and budget, the median over seeds of the optimum's time over the best time found.

    Raises TableError for a folder without landscapes, or one that cannot be read.
    """
    paths = sorted(folder.glob("*.json.gz"))
    if not paths:
        raise TableError(f"{folder}: no landscapes (*.json.gz) there")
    points = tuple(point for point in BUDGETS if point <= budget)
    tasks = [
        (path, method, some, seed)
        for path in paths
        for method in METHODS
        for some in ([points] if method in ANYTIME else [(point,) for point in points])
        for seed in range(seeds)
    ]
    progress.begin("replaying", len(tasks))
    found: dict[tuple[Path, str, int], list[float]] = {}
    with Workers(jobs, _nothing) as workers:
        for index, scores in workers.run(replay, tasks, SECONDS):
            path, method, some, _ = tasks[index]
            if isinstance(scores, Failure):
                raise TableError(f"{path}: a replay of {method} ended in a {scores.outcome}")
            for point, score in zip(some, scores, strict=True):
                found.setdefault((path, method, point), []).append(score)
            progress.step(f"{path.name} {method}")
    landscapes = {
        path.name.removesuffix(".json.gz"): {
            method: {str(point): _median(found[path, method, point]) for point in points} | {"n": seeds}
            for method in METHODS
        }
        for path in paths
    }
    mean = {
        method: {
            str(point): round(statistics.mean(scores[method][str(point)] for scores in landscapes.values()), 4)
            for point in points
        }
        for method in METHODS
    }
    return {"schema": SCHEMA, "landscapes": landscapes, "mean": mean}


def replay(path: Path, method: str, points: tuple[int, ...], seed: int) -> list[float]:
    """The optimum's time over that of the best configuration found, after each of so many trials of one run."""
    space, times = _landscape(path)
    trials = METHODS[method](space, Trials(measure=lambda config: timed(times[config]), budget=max(points)), seed=seed)
    tried = [timing.milliseconds for timing in trials.timings.values()]
    return [min(times.values()) / min(tried[:point]) for point in points]


def timed(milliseconds: float) -> Timing:
    """A recorded time as a timing; inf is a failure."""
    return Timing(samples=(milliseconds,) if milliseconds < math.inf else ())


def print_bench(console: Console, result: dict[str, Any]) -> None:
    """One row per landscape and method, and the means."""
    table = Table(
        "landscape", "method", *(f"at {point}" for point in next(iter(result["mean"].values()))), header_style="bold"
    )
    for name, scores in [*result["landscapes"].items(), ("mean", result["mean"])]:
        for method, row in scores.items():
            table.add_row(name, method, *(f"{value:.3f}" for point, value in row.items() if point != "n"))
    console.print(table)


@lru_cache(maxsize=2)
def _landscape(path: Path) -> tuple[Space, dict[Config, float]]:
    """A landscape in Kernel Tuner's cache format: what is feasible is in it, what failed has a text for a time."""
    try:
        text = gzip.decompress(path.read_bytes()).decode().rstrip().rstrip(",")
        try:
            content = json.loads(text)
        except json.JSONDecodeError:
            # A recording that was not closed properly lacks its last brackets.
            content = json.loads(text + "}}")
        names = list(content["tune_params_keys"])
        times = {
            tuple(row[name] for name in names): float(row["time"]) if isinstance(row["time"], int | float) else math.inf
            for row in content["cache"].values()
        }
        parameters = {name: tuple(content["tune_params"][name]) for name in names}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise TableError(f"{path}: not a recorded landscape ({error})") from None
    return Space(parameters=parameters, feasible=tuple(sorted(times))), times


def _median(scores: list[float]) -> float:
    return round(statistics.median(scores), 4)


def _nothing() -> None:
    """Replays need no preparation."""
