"""The last choice under test: is the fastest of the configurations tried taken? Asked of recordings with repeats.

Times are drawn from the recorded repeats of a configuration; its cost is the median of all of them. The recording's own order,
and with it a device that grows warm, is lost, so that a configuration whose repeats fall into two groups is told from its rivals
by more samples alone.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from ...results.evidence.weigh import TIE
from ..search.study import Config
from ..timing.device import SAMPLES
from ..timing.tuning_job import FINALISTS, ROUNDS
from .spaces import read_spaces

REPEATS = 10
"""A configuration with fewer is left out."""
ANYWHERE, NEAR_THE_BEST = 60, 40
"""Of a search: configurations drawn from all, and from the best twentieth."""
PER_SEED = 10

Loss = Mapping[str, float]
"""mean: time of the choice over that of the best tried, less 1. worst_tenth: the value that nine in ten of these do not
exceed."""


def choices(path: Path, seeds: Sequence[int]) -> dict[str, dict[str, Loss]]:
    """For every space of a file with repeats: the loss of a choice by one sample, by the median of SAMPLES, and by the finals."""
    return {
        name: _losses(repeats, seeds)
        for name, recorded in read_spaces(path).items()
        if len(repeats := _repeats(recorded.samples)) >= ANYWHERE
    }


def _repeats(samples: Mapping[Config, Sequence[float]]) -> list[np.ndarray]:
    return [np.array(some) for some in samples.values() if len(some) >= REPEATS]


def _losses(repeats: Sequence[np.ndarray], seeds: Sequence[int]) -> dict[str, Loss]:
    costs = np.array([np.median(some) for some in repeats])
    order = np.argsort(costs)
    found: dict[str, list[float]] = {"one sample": [], f"median of {SAMPLES}": [], "finals": []}
    for seed in seeds:
        random = np.random.default_rng(seed)
        for _ in range(PER_SEED):
            near = order[random.choice(max(NEAR_THE_BEST, len(repeats) // 20), NEAR_THE_BEST)]
            tried = np.unique([*random.choice(len(repeats), ANYWHERE), *near])
            for way, chosen in zip(found, _choose(repeats, tried, random), strict=True):
                found[way].append(float(costs[chosen] / costs[tried].min() - 1))
    return {
        way: {"mean": round(statistics.mean(some), 5), "worst_tenth": round(float(np.quantile(some, 0.9)), 5)}
        for way, some in found.items()
    }


def _choose(repeats: Sequence[np.ndarray], tried: np.ndarray, random: np.random.Generator) -> tuple[int, int, int]:
    """By one sample, by the median of SAMPLES, and by the finals of the best of these; which of a tie is taken is left to chance,
    as a recording has no registers."""

    def timed(samples: int, some: np.ndarray) -> np.ndarray:
        return np.array([np.median(random.choice(repeats[one], samples)) for one in some])

    alone = timed(SAMPLES, tried)
    finalists = tried[np.argsort(alone)[:FINALISTS]]
    finals = timed(SAMPLES * ROUNDS, finalists)
    tied = finalists[finals <= finals.min() * (1 + TIE)]
    return int(tried[timed(1, tried).argmin()]), int(tried[alone.argmin()]), int(random.choice(tied))
