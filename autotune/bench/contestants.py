"""The searches of a recorded space: ours, its simplest rivals, and the peers that are installed.

A contestant gives the configurations that it sent to the device, in order and each once, the failing ones included. One
run serves all budgets: ours is anytime, and Kernel Tuner's are told the largest.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import random
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ..search.propose import Trials, draw, plain, search
from ..search.study import Config, Timing
from .optuna_gp import optuna_gp
from .spaces import Recorded

Contestant = Callable[[Recorded, int, int], Sequence[Config]]
"""(space, budget, seed) -> configurations in the order in which they were tried."""

STRATEGIES = ("adaptive_tabu_greywolf", "hybrid_vndx", "genetic_algorithm")
"""Kernel Tuner's that lead on public landscapes."""
FIRST, CANDIDATES, BEST = 20, 400, 0.1
"""Of LFBO: configurations drawn first, scored per proposal, and the share of them that counts as good."""


def contestants() -> dict[str, Contestant]:
    """All that can run here, by name."""
    found: dict[str, Contestant] = {name: partial(_own, one) for name, one in OURS.items()}
    found["optuna gp"] = optuna_gp
    if find_spec("kernel_tuner"):
        found |= {f"kernel_tuner {name}": partial(_kernel_tuner, name) for name in STRATEGIES}
    if find_spec("sklearn"):
        found["lfbo"] = _lfbo
    return found


OURS = {"random": draw, "tpe": plain, "deltaproof": search}


def timed(milliseconds: float) -> Timing:
    """A recorded time as a timing; inf is a failure."""
    return Timing(samples=(milliseconds,) if milliseconds < math.inf else ())


def _own(method: Callable[..., Trials], recorded: Recorded, budget: int, seed: int) -> Sequence[Config]:
    trials = Trials(measure=lambda config: timed(recorded.times[config]), budget=budget)
    return list(method(recorded.space, trials, seed=seed).timings)


def _kernel_tuner(strategy: str, recorded: Recorded, budget: int, seed: int) -> Sequence[Config]:
    """A strategy with its defaults, through Kernel Tuner's own simulation mode."""
    import kernel_tuner  # pyright: ignore[reportMissingImports]
    import numpy as np
    from constraint import FunctionConstraint  # pyright: ignore[reportMissingImports]

    names = list(recorded.space.parameters)
    feasible = set(recorded.space.feasible)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cache.json"
        path.write_text(json.dumps(_cache_of(recorded)))
        random.seed(seed)
        np.random.seed(seed)
        # It always prints, with any setting.
        with contextlib.redirect_stdout(io.StringIO()):
            results, _ = kernel_tuner.tune_kernel(
                "recorded", "", 1, [], {name: list(values) for name, values in recorded.space.parameters.items()},
                restrictions=[FunctionConstraint(lambda *config: config in feasible)],
                strategy=strategy, strategy_options={"max_fevals": min(budget, len(feasible))},
                simulation_mode=True, cache=str(path), quiet=True,
            )  # fmt: skip
    return list(dict.fromkeys(tuple(row[name] for name in names) for row in results))[:budget]


def _cache_of(recorded: Recorded) -> dict[str, Any]:
    names = list(recorded.space.parameters)
    rows = {}
    for config, time in recorded.times.items():
        row = dict(zip(names, config, strict=True))
        spent = dict.fromkeys(
            ("compile_time", "verification_time", "benchmark_time", "strategy_time", "framework_time"), 0.0
        )
        ran = {"time": time, "times": [time]} if time < math.inf else {"time": "RuntimeFailedConfig"}
        rows[",".join(map(str, config))] = row | ran | spent | {"timestamp": "2020-01-01 00:00:00+00:00"}
    return {
        "device_name": "recorded", "kernel_name": "recorded", "problem_size": 1, "tune_params_keys": names,
        "tune_params": {name: list(values) for name, values in recorded.space.parameters.items()},
        "objective": "time", "cache": rows,
    }  # fmt: skip


def _lfbo(recorded: Recorded, budget: int, seed: int) -> Sequence[Config]:
    """A forest tells the best tenth from the rest; of some neighbours and draws the likeliest is tried (after Helion's)."""
    import numpy as np
    from sklearn.ensemble import RandomForestClassifier  # pyright: ignore[reportMissingImports]

    rng = random.Random(seed)
    space, times = recorded.space, recorded.times
    places = [{value: place for place, value in enumerate(values)} for values in space.parameters.values()]
    feasible = set(space.feasible)

    def features(some: Sequence[Config]) -> Any:
        return np.array([[place[value] for place, value in zip(places, config, strict=True)] for config in some])

    tried = rng.sample(list(space.feasible), min(FIRST, budget, len(feasible)))
    while len(tried) < min(budget, len(feasible)):
        order = sorted(tried, key=lambda config: times[config])
        good = set(order[: max(1, math.ceil(BEST * len(order)))])
        weights = [1.0 / (1 + rank) for rank in range(len(order))]
        forest = RandomForestClassifier(n_estimators=50, min_samples_leaf=2, random_state=seed)
        forest.fit(features(order), [config in good for config in order], sample_weight=np.add(weights, 0.05))
        near = {other for config in order[:5] for other in space.neighbours(config) if other in feasible}
        drawn = rng.sample(list(space.feasible), min(CANDIDATES, len(feasible)))
        left = sorted({*near, *drawn} - set(tried), key=repr)
        if not left:
            left = [config for config in space.feasible if config not in set(tried)]
        chances = forest.predict_proba(features(left))[:, -1]
        tried.append(left[int(np.argmax(chances))])
    return tried
