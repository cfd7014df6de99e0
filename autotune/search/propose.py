"""The search: which configuration to try next, so that the best of few trials is nearly the best of all.

Small spaces are tried whole. Otherwise, after those that were timed beforehand, a few are tried at random; then those of which a
Gaussian process expects most (`surrogate`); and, with budget for very many, children of the best. It is anytime: the budget
decides only where it stops.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import optuna

from .study import Config, Space, Study, Timing

USELESS_ASKS = 10
"""Of Optuna as it comes: after so many infeasible or repeated proposals in a row, a feasible configuration is drawn instead."""
MODEL_TRIALS = 200
"""Trials after which the model has no more to say; each costs it more than the one before."""
POPULATION = 20


@dataclass(slots=True, kw_only=True)
class Trials:
    """The configurations tried, in order. Stops the search when the budget is spent.

    Others may be at work on the same space: their results are in `timings`, and the configurations that they are timing in
    `running`.
    """

    measure: Callable[[Config], Timing]
    budget: int
    timings: dict[Config, Timing] = field(default_factory=dict)
    running: set[Config] = field(default_factory=set)

    def run(self, config: Config) -> Timing | None:
        """The timing of a configuration, from memory where it is known; None if another worker is at it.

        Raises BudgetExhausted when there is no budget for a new one.
        """
        if config in self.running:
            return None
        if config not in self.timings:
            if self.begun >= self.budget:
                raise BudgetExhausted
            self.timings[config] = self.measure(config)
        return self.timings[config]

    def milliseconds(self, config: Config) -> float:
        return self.timings[config].milliseconds

    @property
    def best(self) -> Config:
        return min(self.timings, key=self.milliseconds)

    @property
    def begun(self) -> int:
        return len(self.timings) + len(self.running)

    def new(self, config: Config) -> bool:
        return config not in self.timings and config not in self.running


class BudgetExhausted(Exception):
    """The budget is spent, or there is nothing left to try."""


def search(space: Space, trials: Trials, *, seed: int, study: Callable[[], Study] | None = None) -> Trials:
    """Try at most `trials.budget` configurations, those included that were timed before: the model learns from them, too.

    study: where the model's trials are kept, in memory by default; it is asked for only if a model is needed.
    """
    rng, budget = random.Random(seed), trials.budget
    try:
        if len(space.feasible) <= budget:
            for config in space.feasible:
                trials.run(config)
            return trials
        _model(study() if study else Study(space, seed=seed), space, trials, min(MODEL_TRIALS, budget))
        _recombine(space, trials, rng)
    except BudgetExhausted:
        pass
    return trials


def draw(space: Space, trials: Trials, *, seed: int) -> Trials:
    """Random search without repetition, which every other search must beat."""
    for config in random.Random(seed).sample(list(space.feasible), min(trials.budget, len(space.feasible))):
        trials.run(config)
    return trials


def plain(space: Space, trials: Trials, *, seed: int) -> Trials:
    """Optuna as it comes: categorical parameters, and every proposal that is of no use told as failed."""
    rng, feasible = random.Random(seed), set(space.feasible)
    study = Study(space, seed=seed, sampler=optuna.samplers.TPESampler(multivariate=True, seed=seed))
    wasted = 0
    while trials.begun < trials.budget:
        trial, config = study.ask()
        if config not in feasible or config in trials.timings:
            study.repeated(trial)
            wasted += 1
            if wasted == USELESS_ASKS:
                study.next(_untried(space, trials, rng))
                wasted = 0
            continue
        wasted = 0
        timing = trials.run(config)
        if timing and timing.samples:
            study.tell(trial, timing)
        else:
            study.repeated(trial)
    return trials


def _model(study: Study, space: Space, trials: Trials, until: int) -> None:
    """Try the study's proposals, until so many configurations have been tried or it has no new ones."""
    feasible = set(space.feasible)
    study.fill({config: timing for config, timing in trials.timings.items() if config in feasible})
    useless = 0
    while trials.begun < until and useless < len(space.feasible):
        trial, config = study.ask()
        try:
            timing = trials.run(config) if trials.new(config) else None
        except BaseException:
            study.repeated(trial)
            raise
        if timing:
            study.tell(trial, timing)
            useless = 0
        else:
            study.repeated(trial)
            useless += 1


def _recombine(space: Space, trials: Trials, rng: random.Random) -> None:
    """Cross and mutate the best until the budget is spent."""
    feasible = set(space.feasible)
    while True:
        best = sorted(trials.timings, key=trials.milliseconds)[:POPULATION]
        child = next((child for child in _children(space, best, trials, rng) if child in feasible), None)
        trials.run(child or _untried(space, trials, rng))


def _children(space: Space, best: list[Config], trials: Trials, rng: random.Random):
    """Up to a hundred new ones, each of two of the best."""
    for _ in range(100 if best else 0):
        mother, father = (min(rng.sample(best, min(2, len(best))), key=trials.milliseconds) for _ in range(2))
        child = tuple(
            rng.choice(values) if rng.random() < 1 / len(space.parameters) else rng.choice(genes)
            for values, genes in zip(space.parameters.values(), zip(mother, father, strict=True), strict=True)
        )
        if trials.new(child):
            yield child


def _untried(space: Space, trials: Trials, rng: random.Random) -> Config:
    """A feasible configuration that nobody tried. Raises BudgetExhausted if there is none."""
    for _ in range(100):
        if trials.new(config := rng.choice(space.feasible)):
            return config
    rest = [config for config in space.feasible if trials.new(config)]
    if not rest:
        raise BudgetExhausted
    return rng.choice(rest)
