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

from ..results.strict import TableError
from .compile_stage import Progress
from .pool import Workers
from .search import Config, Space, draw, plain, search

SCHEMA = 1
BUDGETS = (50, 100, 200)
METHODS = {"random": draw, "tpe": plain, "deltaproof": search}
SECONDS = 1800.0


def bench(folder: Path, *, seeds: int, budget: int, jobs: int, progress: Progress) -> dict[str, Any]:
    """For every landscape, method and budget, the median over seeds of the optimum's time over the best time found.

    Raises TableError for a folder without landscapes, or one that cannot be read.
    """
    paths = sorted(folder.glob("*.json.gz"))
    if not paths:
        raise TableError(f"{folder}: no landscapes (*.json.gz) there")
    points = [point for point in BUDGETS if point <= budget]
    # A search is told its budget, so every budget is a run of its own.
    tasks = [
        (path, method, point, seed) for path in paths for method in METHODS for point in points for seed in range(seeds)
    ]
    progress.begin("replaying", len(tasks))
    found: dict[tuple[Path, str, int], list[float]] = {}
    with Workers(jobs, _nothing) as workers:
        for index, score in workers.run(replay, tasks, SECONDS):
            path, method, point, _ = tasks[index]
            if isinstance(score, str):
                raise TableError(f"{path}: a replay of {method} ended in a {score}")
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


def replay(path: Path, method: str, budget: int, seed: int) -> float:
    """The optimum's time over that of the best configuration that a method found."""
    space, times = _landscape(path)
    trials = METHODS[method](space, times.__getitem__, budget=budget, seed=seed)
    return min(times.values()) / trials.times[trials.best]


def print_bench(console: Console, result: dict[str, Any]) -> None:
    """One row per landscape and method, and the means."""
    table = Table("landscape", "method", *(f"at {point}" for point in next(iter(result["mean"].values()))), header_style="bold")
    for name, scores in [*result["landscapes"].items(), ("mean", result["mean"])]:
        for method, row in scores.items():
            table.add_row(name, method, *(f"{value:.3f}" for point, value in row.items() if point != "n"))
    console.print(table)


@lru_cache(maxsize=2)
def _landscape(path: Path) -> tuple[Space, dict[Config, float]]:
    """A landscape in Kernel Tuner's cache format: what is feasible is in it, what failed has a text for a time."""
    try:
        text = gzip.open(path, "rt", encoding="utf-8").read().rstrip().rstrip(",")
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
