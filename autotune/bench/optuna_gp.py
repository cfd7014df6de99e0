"""Optuna's own Gaussian process as a contestant, in the form that suits it.

Numbers are ordered places rather than categories, it learns the logarithms of times, and what it expects is compared over all
feasible configurations that were not tried. Left to search by itself, it also proposes infeasible and repeated ones.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna

from ..search.study import Config, Space
from .spaces import Recorded

START = 10
"""Configurations drawn before the model speaks: Optuna's own default."""
_AT_ONCE = 2048


def optuna_gp(recorded: Recorded, budget: int, seed: int) -> Sequence[Config]:
    """What is tried within a budget. A failure is told as inf, which Optuna takes for the slowest time known."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space, distributions = recorded.space, _distributions(recorded.space)
    sampler = _Feasible(_places(space, list(distributions)), list(distributions.values()), seed=seed)
    study = optuna.create_study(sampler=sampler)
    count = len(space.feasible)
    places = {tuple(row): place for place, row in enumerate(sampler.places.tolist())}
    drawn = random.Random(seed).sample(range(count), min(START, budget, count))
    for place in drawn:
        study.enqueue_trial(dict(zip(distributions, sampler.places[place].tolist(), strict=True)))
    tried = []
    while len(tried) < min(budget, count):
        with warnings.catch_warnings():
            # It says each time that it clips the times of failures.
            warnings.simplefilter("ignore", UserWarning)
            trial = study.ask(distributions)
        place = places[tuple(trial.params[name] for name in distributions)]
        sampler.left[place] = False
        tried.append(space.feasible[place])
        study.tell(trial, _logarithm(recorded.times[tried[-1]]))
    return tried


class _Feasible(optuna.samplers.GPSampler):
    """Optuna's sampler, with its hook for another optimiser of the acquisition: the best of the feasible that are left.

    places: of the values of each configuration, a column per parameter in Optuna's order. left: whether each was not tried yet.
    """

    def __init__(self, places: np.ndarray, distributions: Sequence[Any], *, seed: int) -> None:
        super().__init__(seed=seed, n_startup_trials=START, warn_independent_sampling=False)
        self.places, self.left = places, np.ones(len(places), bool)
        ordered = np.array([isinstance(one, optuna.distributions.IntDistribution) for one in distributions])
        # Optuna puts an integer into the middle of its share of [0, 1], and numbers the choices of a category.
        most = places.max(axis=0) + 1
        self._points = np.where(ordered, (places + 0.5) / most, places)

    def _optimize_acqf(self, acqf: Any, best_params: np.ndarray | None) -> np.ndarray:
        left = np.flatnonzero(self.left)
        parts = np.array_split(left, math.ceil(len(left) / _AT_ONCE))
        expected = np.concatenate([acqf.eval_acqf_no_grad(self._points[part]) for part in parts])
        return self._points[left[int(np.argmax(expected))]]


def _distributions(space: Space) -> dict[str, optuna.distributions.BaseDistribution]:
    """Of the places of each parameter's values, in the order of the names, which is Optuna's; one value needs none."""
    return {
        name: optuna.distributions.IntDistribution(0, len(values) - 1)
        if _numbers(values)
        else optuna.distributions.CategoricalDistribution(range(len(values)))
        for name, values in sorted(space.parameters.items())
        if len(values) > 1
    }


def _places(space: Space, names: Sequence[str]) -> np.ndarray:
    columns = {name: column for column, name in enumerate(space.parameters)}
    values = {name: space.parameters[name] for name in names}
    ranked: dict[str, list[Any]] = {
        name: sorted(some) if _numbers(some) else list(some)  # pyright: ignore[reportArgumentType]
        for name, some in values.items()
    }
    return np.array([[ranked[name].index(config[columns[name]]) for name in names] for config in space.feasible])


def _numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _logarithm(time: float) -> float:
    return math.log(time) if time < math.inf else math.inf
