"""Optuna's side of the surrogate: a sampler that proposes feasible configurations, each once."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution as Distribution
from optuna.trial import FrozenTrial, TrialState

from .surrogate import Surrogate

START = 10
"""Times that the model must know before it speaks; as many as are missing are of configurations drawn at random."""
MOST = 20_000
"""Points of a space that the model looks at: of a larger one, as many drawn at random."""

Places = tuple[int, ...]


class SurrogateSampler(optuna.samplers.BaseSampler):
    """Samples all parameters together, out of `feasible`: first at random, then where the surrogate expects most.

    values: of each parameter, as Optuna stores them; parameters with one value are not asked for. feasible: a place among its
    parameter's values for each parameter, in the same order. Earlier trials, failures included, are read from the study, so that
    workers that share one learn from each other; a configuration that another worker is timing is not proposed.
    """

    def __init__(self, values: Mapping[str, Sequence[Any]], feasible: Sequence[Places], *, seed: int) -> None:
        self._rng = random.Random(seed)
        self._independent = optuna.samplers.RandomSampler(seed=seed)
        drawn = list(feasible) if len(feasible) <= MOST else self._rng.sample(list(feasible), MOST)
        self._varied = [at for at, some in enumerate(values.values()) if len(some) > 1]
        self._names = [name for name, some in values.items() if len(some) > 1]
        self._values = [list(some) for some in values.values() if len(some) > 1]
        self._points = {tuple(places[at] for at in self._varied): point for point, places in enumerate(drawn)}
        self._coordinates = list(self._points)
        most = np.array([len(some) - 1 for some in self._values])
        self._surrogate = Surrogate(np.array(self._coordinates, np.float64).reshape(len(drawn), len(most)) / most)
        self._taken = np.zeros(len(drawn), bool)
        self._told: set[int] = set()

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Distribution]:
        return {
            name: optuna.distributions.CategoricalDistribution(values)
            for name, values in zip(self._names, self._values, strict=True)
        }

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, Distribution]
    ) -> dict[str, Any]:
        self._read(study)
        left = np.flatnonzero(~self._taken)
        if not len(left):
            return {}
        drawing = len(self._surrogate) < START or not self._surrogate.informed
        point = self._rng.choice(left.tolist()) if drawing else self._surrogate.propose(self._taken)
        return {
            name: values[place]
            for name, values, place in zip(self._names, self._values, self._coordinates[point], strict=True)
        }

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: Distribution
    ) -> Any:
        return self._independent.sample_independent(study, trial, param_name, param_distribution)

    def _read(self, study: optuna.Study) -> None:
        """Take in new trials: those that ended are told to the surrogate, and those that run are marked as taken."""
        for trial in study.get_trials(deepcopy=False):
            if trial.number in self._told or len(trial.params) < len(self._names):
                continue
            point = self._points.get(self._place(trial.params))
            if point is None:
                self._told.add(trial.number)
                continue
            self._taken[point] = True
            if trial.state.is_finished():
                self._told.add(trial.number)
                if (time := _milliseconds(trial)) is not None:
                    self._surrogate.tell(point, time)

    def _place(self, params: Mapping[str, Any]) -> Places:
        return tuple(values.index(params[name]) for name, values in zip(self._names, self._values, strict=True))


def _milliseconds(trial: FrozenTrial) -> float | None:
    """The time of a trial that ended: its value, or the median of its samples if it was stopped early; None if it never ran."""
    if trial.state is TrialState.COMPLETE:
        return trial.value
    return median(trial.intermediate_values.values()) if trial.intermediate_values else None
