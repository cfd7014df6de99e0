"""Which configuration to try next, by two densities over the feasible ones: of the good that were tried, and of the rest.

A tree-structured Parzen estimator with categorical parameters, as Optuna's multivariate one, that draws only among feasible
and untried ones. Its cost does not depend on the size of the space.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .study import Config, Space

DRAWS = 64
"""Feasible draws from the density of the good, of which the most promising is proposed."""
GOOD, MOST_GOOD = 0.2, 25
"""Share of what was tried that counts as good, and how many at most."""
ROUNDS = 4
"""Of drawing, after which so few are feasible, or left, that it is drawn among some of these instead."""
LEFT = 1024
"""Untried configurations that are drawn among then, at most."""


class Grid:
    """The feasible configurations as rows of whole numbers, the places of their values: rows [configurations, parameters]."""

    def __init__(self, space: Space) -> None:
        self.configs: Sequence[Config] = space.feasible
        self.sizes = np.array([len(values) for values in space.parameters.values()])
        places = [{value: place for place, value in enumerate(values)} for values in space.parameters.values()]
        self.rows = np.array(
            [[place[value] for place, value in zip(places, config, strict=True)] for config in space.feasible]
        ).reshape(len(space.feasible), len(self.sizes))
        self.number = {config: number for number, config in enumerate(space.feasible)}
        # Beyond 64 bits, keys are Python's numbers.
        wide = math.prod(map(int, self.sizes)) >= 1 << 62
        steps = [math.prod(map(int, self.sizes[place + 1 :])) for place in range(len(self.sizes))]
        self._steps = np.array(steps, dtype=object if wide else np.int64)
        keys = self.rows.astype(self._steps.dtype) @ self._steps
        self._order = np.argsort(keys, kind="stable")
        self._keys = keys[self._order]

    def find(self, rows: np.ndarray) -> np.ndarray:
        """Numbers of the feasible configurations among rows [n, parameters], in order, each once."""
        keys = rows.astype(self._steps.dtype) @ self._steps
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.unique(self._order[at[self._keys[at] == keys]])

    def apart(self, count: int, rng: np.random.Generator, among: int) -> list[int]:
        """Numbers of `count` configurations far from each other: each the farthest from those before it, of `among` drawn."""
        chosen = [int(rng.integers(len(self.rows)))]
        nearest = np.full(len(self.rows), np.inf)
        while len(chosen) < min(count, len(self.rows)):
            last = self.rows[chosen[-1]]
            spread = np.abs(self.rows - last) / np.maximum(1, self.sizes - 1)
            nearest = np.minimum(nearest, (spread + (self.rows != last)).sum(axis=1))
            drawn = rng.choice(len(self.rows), min(among, len(self.rows)), replace=False)
            best = int(drawn[np.argmax(nearest[drawn])])
            if best not in chosen:
                chosen.append(best)
        return chosen


class Density:
    """A mixture over the rows of a grid: around each of `centres` [n, parameters], and one that is the same everywhere."""

    def __init__(self, grid: Grid, centres: np.ndarray) -> None:
        self._centres, self._sizes = centres, grid.sizes
        near = 1.0 / (len(centres) + 1)
        self._own = (1 + near) / (1 + grid.sizes * near)
        self._other = near / (1 + grid.sizes * near)

    def log(self, rows: np.ndarray) -> np.ndarray:
        """[n] up to a constant, for rows [n, parameters]."""
        same = rows[:, None, :] == self._centres[None, :, :]
        apart = same @ np.log(self._own / self._other) + np.log(self._other).sum()
        everywhere = np.full((len(rows), 1), -np.log(self._sizes).sum())
        return np.logaddexp.reduce(np.concatenate([apart, everywhere], axis=1), axis=1)

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Rows [count, parameters], whether they are feasible or not."""
        anywhere = (rng.random((count, len(self._sizes))) * self._sizes).astype(int)
        chosen = rng.integers(len(self._centres) + 1, size=count)
        around = chosen < len(self._centres)
        # A value stays where it is, or is drawn anew from all.
        stays = rng.random((count, len(self._sizes))) < self._own - self._other
        kept = self._centres[np.minimum(chosen, len(self._centres) - 1)]
        return np.where(stays & around[:, None], kept, anywhere)


def promising(grid: Grid, ranked: Sequence[int], taken: np.ndarray, rng: np.random.Generator) -> int | None:
    """The number of an untried configuration that looks good beside what was tried; None if all were.

    ranked: what was tried, the best first. taken [configurations]: what was tried, or is being.
    """
    good = Density(grid, grid.rows[list(ranked[: _good(len(ranked))])])
    rest = Density(grid, grid.rows[list(ranked[_good(len(ranked)) :])].reshape(-1, len(grid.sizes)))
    for _ in range(ROUNDS):
        found = grid.find(good.draw(2 * DRAWS, rng))
        found = found[~taken[found]]
        if len(found) >= DRAWS // 8:
            return _best(found[rng.permutation(len(found))[:DRAWS]], grid, good, rest)
    left = np.flatnonzero(~taken)
    if not len(left):
        return None
    left = left[rng.permutation(len(left))[:LEFT]]
    # The largest of these are drawn as the density has it, without putting back.
    lots = good.log(grid.rows[left]) + rng.gumbel(size=len(left))
    return _best(left[np.argsort(-lots, kind="stable")[:DRAWS]], grid, good, rest)


def _best(numbers: np.ndarray, grid: Grid, good: Density, rest: Density) -> int:
    rows = grid.rows[numbers]
    return int(numbers[np.argmax(good.log(rows) - rest.log(rows))])


def _good(tried: int) -> int:
    return min(MOST_GOOD, max(1, math.ceil(GOOD * tried)))
