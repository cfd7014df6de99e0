"""The cost model under test: recorded timings of a matrix product on real GPUs, and how well the model would have chosen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from scipy.stats import rankdata

from ...results.schema.strict import TableError
from ...results.serve.expected_loss import expected
from ...specs.gpus import Gpu
from ...specs.gpus import gpu as find_gpu
from ...verify.compile.compilation import Cache, Compilation
from ...verify.process.progress import Progress
from ...verify.report.grid import grid, show
from ..model.cost import milliseconds
from .contestants import contestants
from .gemm import GemmConfig, GemmProblem, GemmProgram, compile_programs, work
from .landscape import Recording, read_landscape
from .spaces import product_space

SCHEMA = 1
COLUMNS = {
    "first": "first",
    "worst_tenth": "worst 10th",
    "top3": "top 3",
    "evaluations": "to 95%",
    "rank_correlation": "rank",
    "predicted_over_measured": "ratio",
}
"""The meaning of each score of a way to choose, by its name in JSON. Shares are the optimum's time over that of the choice, means
over problems; the others, rank correlation and predicted over measured time, are medians."""

WHOSE = {"own": "the problem itself", "near": "one a bucket away"}
NEAR = 0.95
"""Share of the optimum that counts as there."""

Times = Mapping[GemmConfig, float]


def bench_model(path: Path, *, cache: Cache, jobs: int, progress: Progress) -> dict[str, Any]:
    """For every set of a landscape: the model, a random choice, a search without a model, and the best fixed configuration in
    hindsight.

    Raises TableError for a file that is no landscape, or is of a GPU that is not known.
    """
    sets = {}
    for recording in read_landscape(path):
        try:
            gpu = find_gpu(recording.gpu)
        except ValueError as error:
            raise TableError(f"{path}: {error}") from None
        programs = {GemmProgram.of(problem, config) for problem, times in recording.times.items() for config in times}
        binaries = compile_programs(sorted(programs), gpu.arch, cache, jobs=jobs, progress=progress)
        sets[recording.name] = {"gpu": gpu.slug, **judge(recording, binaries, gpu)}
    return {"schema": SCHEMA, "sets": sets}


def judge(recording: Recording, binaries: Mapping[GemmProgram, Compilation], gpu: Gpu) -> dict[str, Any]:
    """The scores of every way to choose on one set."""
    problems = recording.times
    predictions = {
        problem: {config: predict(problem, config, binaries, gpu) for config in times}
        for problem, times in problems.items()
    }
    fixed = best_fixed(list(problems.values()))
    return {
        "problems": len(problems),
        "configs": len({config for times in problems.values() for config in times}),
        "model": {
            **_chosen(problems, lambda problem: sorted(predictions[problem], key=predictions[problem].__getitem__)),
            "rank_correlation": _median(_correlation(times, predictions[one]) for one, times in problems.items()),
            "predicted_over_measured": _median(
                predictions[problem][config] / time
                for problem, times in problems.items()
                for config, time in times.items()
                if max(time, predictions[problem][config]) < math.inf
            ),
        },
        "losses": losses_of(problems, predictions),
        "random": _random(list(problems.values())),
        "best_fixed": _chosen(problems, lambda problem: fixed) if fixed else None,
        "tpe": _chosen(problems, _by_tpe(problems).__getitem__),
    }


def losses_of(
    problems: Mapping[GemmProblem, Times], predictions: Mapping[GemmProblem, Times]
) -> dict[str, dict[str, float]]:
    """The cost of a choice that a lookup tells, beside the recorded one: of a problem's own choice, and of one a bucket away.

    Mean extra time as a fraction: predicted by the model, expected as `results.serve` has it, and real. within: the share of the
    choices that cost at most 0.1 more than was expected.
    """
    first = {problem: min(times, key=times.__getitem__) for problem, times in predictions.items()}
    rows: dict[str, list[tuple[float, float, float]]] = {"own": [], "near": []}
    for problem, times in problems.items():
        least = predictions[problem][first[problem]], min(times.values())
        for other, config in first.items():
            if problem != other and not _a_bucket_apart(problem, other):
                continue
            here = predictions[problem].get(config, math.inf), times.get(config, math.inf)
            if max(here) < math.inf:
                predicted, real = (taken / best - 1 for taken, best in zip(here, least, strict=True))
                rows["own" if problem == other else "near"].append((predicted, expected(predicted), real))
    return {name: _calibration(some) for name, some in rows.items() if some}


def _a_bucket_apart(one: GemmProblem, other: GemmProblem) -> bool:
    apart = sum(abs(math.log2(getattr(one, side) / getattr(other, side))) for side in ("M", "N", "K"))
    return 0.5 <= apart <= 1.5


def _calibration(rows: Sequence[tuple[float, float, float]]) -> dict[str, float]:
    predicted, told, real = zip(*rows, strict=True)
    within = _mean(cost <= word + 0.1 for word, cost in zip(told, real, strict=True))
    return {
        "n": len(rows),
        "predicted": _mean(predicted),
        "expected": _mean(told),
        "real": _mean(real),
        "within": within,
    }


def predict(problem: GemmProblem, config: GemmConfig, binaries: Mapping[GemmProgram, Compilation], gpu: Gpu) -> float:
    """Milliseconds by the model; inf for a program that does not compile or cannot be launched."""
    binary = binaries[GemmProgram.of(problem, config)]
    if binary.outcome != "compiled":
        return math.inf
    try:
        return float(milliseconds(work(problem, config), binary, gpu, num_stages=config.num_stages)[0])
    except ValueError:
        return math.inf


def best_fixed(problems: Sequence[Times]) -> list[GemmConfig]:
    """The configurations that every problem has, by their mean share of the optimum, the best first."""
    common = set.intersection(*(set(times) for times in problems))
    mean = {one: statistics.mean(_share(times, [one]) for times in problems) for one in common}
    return sorted(common, key=lambda one: (-mean[one], repr(one)))


def _by_tpe(problems: Mapping[GemmProblem, Times]) -> dict[GemmProblem, list[GemmConfig]]:
    """The order in which Optuna's TPE, which knows no model, tries the configurations of each problem."""
    orders = {}
    for seed, (problem, times) in enumerate(problems.items()):
        configs = {astuple(config): config for config in times}
        tried = contestants()["tpe"](product_space(times), len(times), seed)
        orders[problem] = [configs[config] for config in tried]
    return orders


def print_bench_model(console: Console, result: Mapping[str, Any]) -> None:
    """One row per set and way to choose, and the meaning of the columns."""
    table = grid("set", "choice", *COLUMNS.values(), left=2)
    for name, row in result["sets"].items():
        for choice in ("model", "random", "tpe", "best_fixed"):
            if scores := row[choice]:
                cells = (f"{scores[column]:.3f}" if column in scores else "-" for column in COLUMNS)
                table.add_row(name, choice.replace("_", " "), *cells)
    show(console, table)
    for name, row in result["sets"].items():
        for whose, loss in row["losses"].items():
            console.print(
                f"{name}: the choice for {WHOSE[whose]} is predicted to cost {loss['predicted']:.1%}, a lookup says "
                f"{loss['expected']:.1%}, it cost {loss['real']:.1%}; {loss['within']:.0%} of {loss['n']} cost at most 10% more "
                "than that"
            )
    console.print(
        "first, worst 10th, top 3: the optimum's time over that of the first choice, over problems, over the worst tenth of "
        "them, and over the best of three choices; to 95%: choices until one is that close to the optimum, mean; "
        "rank: Spearman's correlation; ratio: predicted over measured time"
    )


def _chosen(
    problems: Mapping[GemmProblem, Times], order: Callable[[GemmProblem], Sequence[GemmConfig]]
) -> dict[str, float]:
    firsts = [_share(times, order(problem)[:1]) for problem, times in problems.items()]
    best = [_share(times, order(problem)[:3]) for problem, times in problems.items()]
    near = [_evaluations(times, order(problem)) for problem, times in problems.items()]
    return {
        "first": _mean(firsts),
        "worst_tenth": _worst_tenth(firsts),
        "top3": _mean(best),
        "evaluations": _mean(near),
    }


def _evaluations(times: Times, order: Sequence[GemmConfig]) -> int:
    """How many have been tried, in this order, when one is within reach of the optimum; one more than there are if none is."""
    reached = (place for place, one in enumerate(order, 1) if _share(times, [one]) >= NEAR)
    return next(reached, len(order) + 1)


def _random(problems: Sequence[Times]) -> dict[str, float]:
    """The exact mean scores of a random choice."""
    shares = [sorted((_share(times, [one]) for one in times), reverse=True) for times in problems]
    firsts = [statistics.mean(one) for one in shares]
    # The first of k among n in a random order comes after (n + 1) / (k + 1) on average.
    near = [(len(one) + 1) / (1 + sum(share >= NEAR for share in one)) for one in shares]
    return {
        "first": _mean(firsts), "worst_tenth": _worst_tenth(firsts), "top3": _mean(map(_best_of_three, shares)),
        "evaluations": _mean(near),
    }  # fmt: skip


def _best_of_three(shares: Sequence[float]) -> float:
    """The mean over all choices of three of the best among them; shares fall."""
    most = len(shares)
    if most <= 3:
        return shares[0]
    return sum(share * math.comb(most - 1 - place, 2) for place, share in enumerate(shares)) / math.comb(most, 3)


def _share(times: Times, some: Sequence[GemmConfig]) -> float:
    return min(times.values()) / min(times[one] for one in some)


def _correlation(times: Times, predicted: Times) -> float:
    """Spearman's, over the configurations that ran; 0 where either side is all alike."""
    ran = [one for one, time in times.items() if time < math.inf]
    ranks = [rankdata([side[one] for one in ran]) for side in (times, predicted)]
    if not all(np.ptp(some) for some in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


def _worst_tenth(shares: Sequence[float]) -> float:
    return _mean(sorted(shares)[: max(1, len(shares) // 10)])


def _mean(values: Any) -> float:
    return round(statistics.mean(values), 4)


def _median(values: Any) -> float:
    return round(statistics.median(values), 4)
