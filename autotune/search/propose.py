"""The search: which configuration to try next, so that the best of however many trials is nearly the best of all.

It may be stopped at any time, and does not ask for its budget. In turn: what it is told to begin with; a start far apart; then
what two densities over the feasible configurations find promising. Small spaces are tried whole, the likeliest first. Known good
configurations that others found belong outside: inside, they trap the model.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from .density import Grid, promising
from .study import Config, Space, Study, Timing

USELESS_ASKS = 10
"""After so many infeasible or repeated proposals in a row, plain TPE is given a feasible configuration instead."""
START = 10
"""Configurations far apart that are tried before the model speaks."""
AMONG = 300
"""Of so many drawn, the farthest from those before it is the next of the start."""


@dataclass(slots=True, kw_only=True)
class Trials:
    """What was tried, in order. Stops the search when the budget is spent.

    Others may be at work on the same space: what they found is in `timings`, and what they are at in `running`. outside: what was
    tried for other reasons than that a search proposed it, and is not learnt from.
    """

    measure: Callable[[Config], Timing]
    budget: int
    timings: dict[Config, Timing] = field(default_factory=dict)
    running: set[Config] = field(default_factory=set)
    outside: set[Config] = field(default_factory=set)

    def refresh(self) -> None:
        """Learn what others found."""

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


def search(
    space: Space, trials: Trials, *, seed: int, study: Callable[[], Study] | None = None, first: Sequence[Config] = ()
) -> Trials:
    """Try at most `trials.budget` configurations.

    study: where trials are kept for others to see; it is asked for only if there is anything to search. first: what is tried
    before all else, the likeliest first.
    """
    rng, grid = np.random.default_rng(seed), Grid(space)
    log = study() if study and space.feasible else None
    start = [*(grid.number[config] for config in first), *grid.apart(START, rng, AMONG)] if space.feasible else []
    try:
        while len(trials.timings) < len(grid.configs):
            trials.refresh()
            number = _next(grid, trials, start, rng)
            if number is None:
                break
            config = grid.configs[number]
            timing = trials.run(config)
            if timing and log:
                log.fill({config: timing})
    except BudgetExhausted:
        pass
    return trials


def _next(grid: Grid, trials: Trials, start: list[int], rng: np.random.Generator) -> int | None:
    """The number of what is to be tried now; None if nothing is left."""
    taken = np.zeros(len(grid.configs), dtype=bool)
    taken[[grid.number[config] for config in (*trials.timings, *trials.running) if config in grid.number]] = True
    while start:
        if not taken[number := start.pop(0)]:
            return number
    known = [config for config in trials.timings if config in grid.number and config not in trials.outside]
    ranked = [grid.number[config] for config in sorted(known, key=trials.milliseconds)]
    if not ranked:
        left = np.flatnonzero(~taken)
        return int(rng.choice(left)) if len(left) else None
    return promising(grid, ranked, taken, rng)


def draw(space: Space, trials: Trials, *, seed: int) -> Trials:
    """Random search without repetition: what every other search must beat."""
    for config in random.Random(seed).sample(list(space.feasible), min(trials.budget, len(space.feasible))):
        trials.run(config)
    return trials


def plain(space: Space, trials: Trials, *, seed: int) -> Trials:
    """Optuna as it comes: categorical parameters, and every proposal that is of no use told as failed."""
    rng, feasible = random.Random(seed), set(space.feasible)
    study = Study(space, seed=seed)
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


def _untried(space: Space, trials: Trials, rng: random.Random) -> Config:
    """A feasible configuration that nobody tried. Raises BudgetExhausted if there is none."""
    for _ in range(100):
        if trials.new(config := rng.choice(space.feasible)):
            return config
    rest = [config for config in space.feasible if trials.new(config)]
    if not rest:
        raise BudgetExhausted
    return rng.choice(rest)
