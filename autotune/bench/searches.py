"""The search under test: recorded timings of real kernels replayed, and every method judged on the same budgets and seeds.

A budget counts the configurations sent to the device, each once, failures included.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from ...results.files.one_line import folded
from ...results.schema.strict import TableError
from ...verify.process.pool import Failure, Workers
from ...verify.process.progress import Progress
from ...verify.report.grid import grid, show
from .choice import Loss, choices
from .contestants import contestants
from .spaces import SUFFIXES, read_spaces

SCHEMA = 3
BUDGETS = (25, 50, 100, 200)
NEAR = 0.95
"""Share of the optimum that counts as there."""
OURS = "deltaproof"
SECONDS = 3600.0
RESAMPLES = 2000
FIRST_SEED = 1000
"""Published runs begin here; those below were used while the search was made."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """The scores of one method on one landscape, a row per seed. scores [seeds, budgets]: the optimum's time over that of the
    best so far. evaluations [seeds]: until NEAR of the optimum, one more than the budget where that was not reached.
    """

    scores: np.ndarray
    evaluations: np.ndarray


def bench(
    folder: Path, *, seeds: int, budget: int, jobs: int, progress: Progress, first: int = FIRST_SEED, methods: Sequence[str] = (),
    problems: int = 20, kept: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Every method on every landscape of a folder. problems: of those in one file, so many are drawn evenly. kept: a file of runs
    that are not repeated, to which every other is added as it ends.

    Raises TableError for a folder without landscapes, one that cannot be read, or a method that cannot run here.
    """
    known = contestants()
    if unknown := [name for name in methods if name not in known]:
        raise TableError(f"--method {ascii(unknown[0])[:60]} cannot run here; accepted: {', '.join(known)}")
    paths = sorted(path for path in folder.iterdir() if path.name.endswith(SUFFIXES))
    if not paths:
        raise TableError(f"{folder}: no landscapes ({', '.join(f'*{suffix}' for suffix in SUFFIXES)}) there")
    methods = list(dict.fromkeys(methods or known))
    drawn = {path: _evenly(list(read_spaces(path)), problems) for path in paths}
    tasks = [
        (path, tuple(drawn[path]), method, budget, seed)
        for path in paths
        for method in methods
        for seed in range(first, first + seeds)
    ]
    there = _read_kept(kept) if kept else {}
    outcomes = {task: there[_key(task)] for task in tasks if _key(task) in there}
    waiting = [task for task in tasks if task not in outcomes]
    progress.begin("replaying", len(waiting))
    with Workers(jobs, _nothing) as workers:
        for index, outcome in workers.run(replay, waiting, SECONDS):
            path, _, method, *_ = task = waiting[index]
            if isinstance(outcome, Failure):
                raise TableError(f"{path}: a replay of {method} did not finish: {outcome.outcome}")
            outcomes[task] = outcome
            if kept:
                with kept.open("a") as file:
                    file.write(json.dumps([_key(task), *outcome]) + "\n")
            progress.step(f"{path.name} {method}")
    found: dict[tuple[Path, str], list[tuple[list[float], float]]] = {}
    for task in tasks:
        found.setdefault((task[0], task[2]), []).append(outcomes[task])
    runs = {path.name.partition(".")[0]: {method: _runs(found[path, method]) for method in methods} for path in paths}
    choice = {name: losses for path in paths for name, losses in choices(path, range(first, first + seeds)).items()}
    return (
        {"schema": SCHEMA, "seeds": [first, seeds], "budget": budget}
        | summary(runs, points(budget))
        | {"choice": choice}
    )


def _key(task: tuple[Path, tuple[str, ...], str, int, int]) -> str:
    """Names a run: the file, the problems drawn from it, the method, the budget and the seed."""
    path, names, method, budget, seed = task
    return f"{path.name} {len(names)} {method} {budget} {seed}"


def _read_kept(path: Path) -> dict[str, tuple[list[float], float]]:
    """The runs of an earlier call, by key; a last line that is cut off counts for nothing."""
    if not path.exists():
        return {}
    *lines, rest = path.read_text().split("\n")
    if rest:
        path.write_text("".join(f"{line}\n" for line in lines))
    try:
        return {key: (scores, evaluations) for key, scores, evaluations in map(json.loads, lines)}
    except (ValueError, TypeError) as error:
        raise TableError(f"{path}: not the runs of an earlier call ({folded(error)})") from None


def points(budget: int) -> tuple[int, ...]:
    return tuple(point for point in BUDGETS if point <= budget)


def replay(path: Path, names: tuple[str, ...], method: str, budget: int, seed: int) -> tuple[list[float], float]:
    """(score at each budget, evaluations until NEAR of the optimum), means over the spaces of a file."""
    spaces, search = read_spaces(path), contestants()[method]
    rows = []
    for name in names:
        recorded = spaces[name]
        tried = search(recorded, min(budget, len(recorded.times)), seed)
        rows.append(judged([recorded.times[config] for config in tried], recorded.optimum, budget))
    scores, evaluations = zip(*rows, strict=True)
    return [statistics.mean(column) for column in zip(*scores, strict=True)], statistics.mean(evaluations)


def judged(times: Sequence[float], optimum: float, budget: int) -> tuple[list[float], int]:
    """The scores of one run at each budget, and its evaluations until NEAR; a run that has tried all stays at the optimum."""
    best = np.minimum.accumulate(times)
    near = np.flatnonzero(optimum / best >= NEAR)
    at = [optimum / best[min(point, len(best)) - 1] for point in points(budget)]
    return at, int(near[0]) + 1 if len(near) else budget + 1


def summary(runs: Mapping[str, Mapping[str, Runs]], at: Sequence[int]) -> dict[str, Any]:
    """Means over seeds, and by how much ours is ahead of each other: a mean over landscapes, and its 95% interval.

    Seeds are drawn again, the same for both; where an interval excludes 0 to the worse of us the landscape is named.
    """
    landscapes = {
        name: {method: _row(one, at) for method, one in by_method.items()} for name, by_method in runs.items()
    }
    methods = list(next(iter(runs.values())))
    mean = {
        method: {
            column: round(statistics.mean(rows[method][column] for rows in landscapes.values()), 4)
            for column in landscapes[next(iter(landscapes))][method]
        }
        for method in methods
    }
    ahead, behind = {}, {}
    for method in methods:
        if OURS not in methods or method == OURS:
            continue
        by_landscape = {name: rows[OURS].scores - rows[method].scores for name, rows in runs.items()}
        whole = np.mean(list(by_landscape.values()), axis=0)
        ahead[method] = {str(point): _interval(whole[:, place]) for place, point in enumerate(at)}
        behind[method] = {
            str(point): [name for name, rows in by_landscape.items() if _interval(rows[:, place])[2] < 0]
            for place, point in enumerate(at)
        }
    return {"landscapes": landscapes, "mean": mean, "ahead": ahead, "behind": behind}


def _row(runs: Runs, at: Sequence[int]) -> dict[str, float]:
    row = {str(point): round(float(runs.scores[:, place].mean()), 4) for place, point in enumerate(at)}
    return row | {"evaluations": round(float(runs.evaluations.mean()), 2), "n": len(runs.evaluations)}


def _interval(values: np.ndarray) -> list[float]:
    """Mean and the ends of its interval, by bootstrap; always the same for the same values."""
    draws = np.random.default_rng(0).integers(0, len(values), (RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), (0.025, 0.975))
    return [round(float(one), 4) for one in (values.mean(), low, high)]


def _runs(outcomes: Sequence[tuple[list[float], float]]) -> Runs:
    scores, evaluations = zip(*outcomes, strict=True)
    return Runs(scores=np.array(scores), evaluations=np.array(evaluations))


def print_bench(console: Console, result: Mapping[str, Any]) -> None:
    """One row per landscape and method, the means, and how far ours is ahead."""
    at = [column for column in next(iter(result["mean"].values())) if column.isdigit()]
    table = grid("landscape", "method", *(f"at {point}" for point in at), f"to {NEAR:.0%}", left=2)
    for name, scores in [*result["landscapes"].items(), ("mean", result["mean"])]:
        for method, row in scores.items():
            table.add_row(name, method, *(f"{row[point]:.3f}" for point in at), f"{row['evaluations']:.1f}")
    show(console, table)
    for method, differences in result["ahead"].items():
        words = ", ".join(
            f"{mean:+.3f} [{low:+.3f}, {high:+.3f}] at {point}" for point, (mean, low, high) in differences.items()
        )
        console.print(f"{OURS} over {method}: {words}")
    console.print(
        "at n: the optimum's time over that of the best of n evaluations, means over seeds; "
        f"to {NEAR:.0%}: evaluations until a time that close to the optimum, the budget and one where there was none"
    )
    if result["choice"]:
        print_choice(console, result["choice"])


def print_choice(console: Console, choice: Mapping[str, Mapping[str, Loss]]) -> None:
    """The loss of the last choice, in percent: one row per landscape with repeats."""
    ways = list(next(iter(choice.values())))
    table = grid("choice among those tried", *ways)
    for name, losses in choice.items():
        table.add_row(name, *(f"{100 * losses[way]['mean']:.2f}%" for way in ways))
    show(console, table)
    console.print(
        "the time of what is chosen over that of the best tried, less 1; times are drawn from the recorded repeats"
    )


def _evenly(names: Sequence[str], most: int) -> list[str]:
    step = max(1, -(-len(names) // most))
    return list(names[::step])


def _nothing() -> None:
    """Replays need no preparation."""
