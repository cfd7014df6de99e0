"""The search: which configuration to try next, so that the best of few trials is nearly the best of all.

Small spaces are tried whole. Otherwise, in turn: a random start; Optuna's multivariate TPE with every parameter categorical, what
cannot be or fails told through `set_constraint`, what was tried before not told again; for large budgets a genetic tail; and
last the neighbours of the best. Known good configurations belong outside: inside, they trap the model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import optuna

Config = tuple[object, ...]

USELESS_ASKS = 10
"""After so many infeasible or repeated proposals in a row, a feasible configuration is drawn instead."""
START = 10
"""Feasible configurations drawn before the model speaks: drawn from all, most would be infeasible and teach it little."""
TPE_TRIALS = 120
"""Trials after which the model has said what it knows, and recombining good configurations finds more."""
POLISH = 0.15
"""Share of the budget kept for the neighbours of the best."""
POPULATION = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Space:
    """Parameters with their values, and the feasible configurations, each a value per parameter in this order."""

    parameters: Mapping[str, Sequence[object]]
    feasible: Sequence[Config]

    def neighbours(self, config: Config) -> Iterator[Config]:
        """What differs in one parameter, the nearest values first; infeasible ones included."""
        found = []
        for place, values in enumerate(self.parameters.values()):
            here = values.index(config[place])
            for there, value in enumerate(values):
                if there != here:
                    found.append((abs(there - here), place, (*config[:place], value, *config[place + 1 :])))
        yield from (config for _, _, config in sorted(found, key=lambda item: item[:2]))


@dataclass(slots=True, kw_only=True)
class Trials:
    """What was tried, in order, with its milliseconds; inf for what failed. Stops the search when the budget is spent."""

    measure: Callable[[Config], float]
    budget: int
    times: dict[Config, float] = field(default_factory=dict)

    def run(self, config: Config) -> float:
        """The time of a configuration, from memory where it is known. Raises Spent when there is no budget for a new one."""
        if config not in self.times:
            if len(self.times) >= self.budget:
                raise Spent
            self.times[config] = self.measure(config)
        return self.times[config]

    @property
    def best(self) -> Config:
        return min(self.times, key=self.times.__getitem__)

    @property
    def left(self) -> int:
        return self.budget - len(self.times)


class Spent(Exception):
    """The budget is spent."""


def search(
    space: Space,
    measure: Callable[[Config], float],
    *,
    budget: int,
    seed: int,
    storage: str | None = None,
    name: str | None = None,
) -> Trials:
    """Try at most `budget` configurations. `measure` gives milliseconds, inf for a failure.

    storage, name: an Optuna storage URL and the study's name there; a study that is there already is gone on with.
    """
    trials, rng = Trials(measure=measure, budget=budget), random.Random(seed)
    try:
        if len(space.feasible) <= budget:
            for config in space.feasible:
                trials.run(config)
            return trials
        polish = round(budget * POLISH)
        _model(space, trials, rng, min(TPE_TRIALS, budget - polish), seed, storage, name)
        _recombine(space, trials, rng, budget - polish)
        _polish(space, trials)
        _recombine(space, trials, rng, budget)
    except Spent:
        pass
    return trials


def draw(space: Space, measure: Callable[[Config], float], *, budget: int, seed: int) -> Trials:
    """Random search without repetition: what every other search must beat."""
    trials = Trials(measure=measure, budget=budget)
    for config in random.Random(seed).sample(list(space.feasible), min(budget, len(space.feasible))):
        trials.run(config)
    return trials


def plain(space: Space, measure: Callable[[Config], float], *, budget: int, seed: int) -> Trials:
    """Optuna as it comes: categorical parameters, and every proposal that is of no use told as failed."""
    trials, rng, feasible = Trials(measure=measure, budget=budget), random.Random(seed), set(space.feasible)
    study = _study(seed, None, None)
    wasted = 0
    while trials.left:
        trial = study.ask()
        config = _suggest(trial, space)
        if config not in feasible or config in trials.times:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
            wasted += 1
            if wasted == USELESS_ASKS:
                study.enqueue_trial(_chosen(space, _untried(space, trials, rng)))
                wasted = 0
            continue
        wasted = 0
        milliseconds = trials.run(config)
        if math.isinf(milliseconds):
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(trial, milliseconds)
    return trials


def _model(
    space: Space, trials: Trials, rng: random.Random, until: int, seed: int, storage: str | None, name: str | None
) -> None:
    """Multivariate TPE until so many configurations have been tried."""
    study, feasible, useless = _study(seed, storage, name), set(space.feasible), 0
    for config in rng.sample(list(space.feasible), START):
        study.enqueue_trial(_chosen(space, config))
    while len(trials.times) < until:
        trial = study.ask()
        config = _suggest(trial, space)
        useless = useless + 1 if config not in feasible or config in trials.times else 0
        if config not in feasible:
            trial.set_constraint("feasible", 1.0)
            study.tell(trial, math.inf)
        elif config in trials.times:
            # Told again and again, the time of the best would draw the model to it alone.
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            milliseconds = trials.run(config)
            trial.set_constraint("feasible", float(math.isinf(milliseconds)))
            study.tell(trial, milliseconds)
        if useless == USELESS_ASKS:
            study.enqueue_trial(_chosen(space, _untried(space, trials, rng)))
            useless = 0


def _recombine(space: Space, trials: Trials, rng: random.Random, until: int) -> None:
    """Cross and mutate the best until so many configurations have been tried."""
    feasible = set(space.feasible)
    while len(trials.times) < until:
        best = sorted(trials.times, key=trials.times.__getitem__)[:POPULATION]
        for _ in range(100):
            mother, father = (min(rng.sample(best, min(2, len(best))), key=trials.times.__getitem__) for _ in range(2))
            child = tuple(
                rng.choice(values) if rng.random() < 1 / len(space.parameters) else rng.choice(genes)
                for values, genes in zip(space.parameters.values(), zip(mother, father, strict=True), strict=True)
            )
            if child in feasible and child not in trials.times:
                trials.run(child)
                break
        else:
            trials.run(_untried(space, trials, rng))


def _polish(space: Space, trials: Trials) -> None:
    """Try the neighbours of the best, and start over from whatever is better."""
    feasible, done = set(space.feasible), None
    while done != trials.best:
        done = trials.best
        for config in space.neighbours(done):
            if config in feasible and trials.run(config) < trials.times[done]:
                break


def _untried(space: Space, trials: Trials, rng: random.Random) -> Config:
    """A feasible configuration that was not tried; there is one, as the budget is smaller than the space."""
    while (config := rng.choice(space.feasible)) in trials.times:
        pass
    return config


def _study(seed: int, storage: str | None, name: str | None) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = optuna.samplers.TPESampler(multivariate=True, seed=seed)
    return optuna.create_study(sampler=sampler, storage=storage, study_name=name, load_if_exists=True)


def _suggest(trial: optuna.Trial, space: Space) -> Config:
    """Values by their place in the list: Optuna stores numbers and strings only."""
    return tuple(
        values[trial.suggest_categorical(name, range(len(values)))] if len(values) > 1 else values[0]
        for name, values in space.parameters.items()
    )


def _chosen(space: Space, config: Config) -> dict[str, int]:
    return {
        name: values.index(value)
        for (name, values), value in zip(space.parameters.items(), config, strict=True)
        if len(values) > 1
    }
