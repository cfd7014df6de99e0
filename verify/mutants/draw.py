"""Which of all possible faults are planted: a seeded draw that goes round the families of operators, in each round the stages."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence

from .mutant import Mutant, family


def draw(mutants: Sequence[Mutant], count: int, seed: int) -> list[Mutant]:
    """`count` faults, or all there are. Each family of operators in its turn gives one of the stage that has had the fewest.

    Families share evenly until one has no more to give, so that none has over a fifth of the draw while six or more
    of them have.
    """
    rng = random.Random(f"mutants {seed}")
    left: dict[str, dict[str, list[Mutant]]] = {}
    for mutant in mutants:
        left.setdefault(family(mutant.operator), {}).setdefault(mutant.stage, []).append(mutant)
    for stages in left.values():
        for stratum in stages.values():
            rng.shuffle(stratum)
    taken: list[Mutant] = []
    per_stage: Counter[str] = Counter()
    while len(taken) < count and left:
        for name in list(left):
            stages = left[name]
            stage = min(sorted(stages), key=lambda stage: per_stage[stage])
            taken.append(stages[stage].pop())
            per_stage[stage] += 1
            if not stages[stage]:
                del stages[stage]
            if not stages:
                del left[name]
            if len(taken) == count:
                break
    return taken
