"""From stages to whole configurations: the few that the cost model predicts to be best over all sizes of calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from ...kernels.configs.launch_config import LaunchConfig, Variant
from ...kernels.configs.space import op_stages, tuned_groups
from ...results.schema.gpus import Resources
from ...specs.gpus import Gpu
from ...verify.compile.compilation import Compilation
from ..space.points import Family, Point, config_of, points_of
from .cost import estimate

TOKENS = tuple(2**i for i in range(10, 16))
HEADS = tuple(2**i for i in range(8))
"""Buckets that a table has entries for: tokens of the longest sequence, and sequences x value heads."""

MOST = 8
"""Configurations per family, at most: each one that a program meets costs it a compilation."""
ENOUGH = 0.02
"""Predicted loss, as a fraction, below which another configuration is not worth having."""

RUNS = {"chunk_fwd": {}, "chunk_train": {"states": 2}}
"""How often an op runs a stage, if not once: training walks the states again in its backward pass."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A whole configuration. milliseconds: predicted, by (tokens, heads). resources: the most over its stages."""

    config: LaunchConfig
    milliseconds: Mapping[tuple[int, int], float]
    resources: Resources


def sizes() -> list[tuple[int, int]]:
    """Every (tokens, heads) that is estimated."""
    return list(product(TOKENS, HEADS))


def rank(family: Family, survivors: Mapping[Point, Compilation], gpu: Gpu) -> list[Ranked]:
    """The safe default first, if its stages were compiled, then the configurations that lose least where they lose most.

    For every chunk size the best tile of each stage is found for each size of call by itself: stages add up, so
    that this is the whole product space. Empty if some stage has no point for any chunk size.
    """
    grid = sizes()
    tokens, heads = (np.array(column) for column in zip(*grid, strict=True))
    own = {point: binary for point, binary in survivors.items() if point.family == family}
    totals: dict[LaunchConfig, np.ndarray] = {}
    for group in tuned_groups(family.op):
        times = {
            point: estimate(point, binary, gpu, tokens, heads, group) * RUNS[family.op].get(point.stage, 1)
            for point, binary in own.items()
        }
        for stages in whole(family, times, group):
            best = {stage: np.argmin([times[point] for point in points], axis=0) for stage, points in stages.items()}
            for size in range(len(grid)):
                chosen = {stage: points[best[stage][size]] for stage, points in stages.items()}
                config = config_of(chosen.values(), group)
                totals.setdefault(config, sum(times[point] for point in chosen.values()))  # pyright: ignore[reportArgumentType]
        if not group and compiled(family, family.default, times):
            members = points_of(family, family.default)
            totals.setdefault(family.default, sum(times[point] for point in members))  # pyright: ignore[reportArgumentType]
    found = []
    for config in _few(totals, family.default):
        milliseconds = {size: float(f"{time:.5g}") for size, time in zip(grid, totals[config], strict=True)}
        found.append(Ranked(config=config, milliseconds=milliseconds, resources=resources(family, config, survivors)))
    return found


def resources(family: Family, config: LaunchConfig, survivors: Mapping[Point, Compilation]) -> Resources:
    """The resources of a configuration whose stages were kept: the maximum over them."""
    binaries = [survivors[point] for point in points_of(family, config)]
    return Resources.of([(binary.shared, binary.registers, binary.threads) for binary in binaries])


def compiled(family: Family, config: LaunchConfig, points: Container[Point]) -> bool:
    """Whether all its stages are among these points."""
    return all(point in points for point in points_of(family, config))


def whole(family: Family, points: Mapping[Point, object], group: int = 0) -> list[dict[str, list[Point]]]:
    """Points by stage, for every variant and chunk size that has some in every stage, and with `group` has groups."""
    by_setting: dict[tuple[Variant, int], dict[str, list[Point]]] = defaultdict(lambda: defaultdict(list))
    for point in sorted(points, key=lambda point: point.config.token):
        by_setting[point.variant, point.chunk_size][point.stage].append(point)
    complete = []
    for variant, chunk_size in sorted(by_setting):
        if group and variant != "packed":
            continue
        stages = {
            space.stage: by_setting[variant, chunk_size].get(space.stage)
            for space in op_stages(family.op, variant, grouped=bool(group))
        }
        if all(stages.values()):
            complete.append(stages)
    return complete


def _few(totals: Mapping[LaunchConfig, np.ndarray], default: LaunchConfig) -> Sequence[LaunchConfig]:
    """The default, then greedily the configuration that lowers the greatest loss over all sizes the most."""
    if not totals:
        return []
    order = sorted(totals, key=lambda config: config.token)
    table = np.array([totals[config] for config in order])
    loss = table / table.min(axis=0) - 1
    chosen = [order.index(default)] if default in totals else []
    current = loss[chosen].min(axis=0) if chosen else np.full(table.shape[1], np.inf)
    first = True
    while len(chosen) < MOST + 1 and (first or current.max() > ENOUGH):
        trial = np.minimum(loss, current)
        best = int(np.lexsort((trial.sum(axis=1), trial.max(axis=1)))[0])
        if best in chosen:
            break
        chosen.append(best)
        current, first = trial[best], False
    return [order[index] for index in chosen]
