"""The subjects of a choice: kernels for which an autotuner keeps one configuration, and their configurations, best first."""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...specs.gpus import Gpu
from ...verify.compile.compilation import Compilation
from ...verify.targets.tuners import LaunchChoice
from ..compile.prune import HEAVY_SPILL, too_large
from ..model.cost import occupancy, parameters
from .compile import CompileTask

Place = tuple[Any, str, int]
"""A kernel of a call (a `FlaCall`, or that of another target), by the order of its launch."""
Keys = Mapping[Place, Sequence[tuple[Any, ...]]]
"""The autotuner's keys for a place, those of the calls that differ in heads, batch and length too."""

KNOWN_BAD = {
    ("sm_100", "chunk_gdn2_bwd_kernel_wy_dqkg_fused"): (
        lambda choice: dict(choice.kwargs).get("BK") == 32 and choice.num_warps != 2,
        "illegal memory access (flash-linear-attention issue 1109)",
    ),
}
"""Configurations that must not be launched although FLA offers them: by architecture and kernel, with the source."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheKeyGroup:
    """Kernels that share a key, directly or through others: an autotuner finds the same configuration for all of them.

    places: sorted. keys: of all. ranked: configurations that compiled and fit at every place, best first.
    """

    places: tuple[Place, ...]
    keys: tuple[tuple[Any, ...], ...]
    ranked: tuple[CompileTask, ...]

    @property
    def kernel(self) -> str:
        return self.places[0][1]


def cache_key_groups(
    gpu: Gpu, tasks: Sequence[CompileTask], keys: Keys, found: Mapping[str, Compilation]
) -> tuple[list[CacheKeyGroup], Counter[str], int]:
    """(slots, how many configurations left by reason, how many were not compiled)."""
    offered: dict[Place, list[CompileTask]] = defaultdict(list)
    for task in tasks:
        offered[task.call, task.kernel, task.order].append(task)
    rejected: Counter[str] = Counter()
    left: dict[Place, list[CompileTask]] = {}
    fitting: dict[Place, set[LaunchChoice]] = {}
    waiting = 0
    for place, group in sorted(offered.items()):
        fits = [task for task in group if _fits(gpu, task, found.get(task.name), rejected)]
        waiting += sum(task.name not in found for task in group)
        fitting[place] = {task.choice for task in fits}
        left[place] = _distinct(fits, found, rejected)
    made = []
    for places in _sharing(keys):
        everywhere = set[LaunchChoice].intersection(*(fitting.get(place, set()) for place in places))
        some = [task for task in left.get(places[0], ()) if task.choice in everywhere]
        ranked = sorted(
            some, key=lambda task: (score(task, found[task.name], gpu), found[task.name].registers, task.place)
        )
        unique = {json.dumps(key): key for place in places for key in keys[place]}
        made.append(CacheKeyGroup(places=places, keys=tuple(unique.values()), ranked=tuple(ranked)))
    return made, rejected, waiting


def _sharing(keys: Keys) -> list[tuple[Place, ...]]:
    """Places in groups that share keys: an autotuner cannot tell calls apart that differ in their launch alone."""
    first: dict[tuple[str, str], Place] = {}
    group: dict[Place, list[Place]] = {}
    for place in sorted(keys):
        group[place] = [place]
        for key in keys[place]:
            other = first.setdefault((place[1], json.dumps(key)), place)
            if group[other] is not group[place]:
                joined = group[other] + group[place]
                group |= dict.fromkeys(joined, joined)
    unique = {id(places): tuple(sorted(places)) for places in group.values()}
    return sorted(unique.values())


def _fits(gpu: Gpu, task: CompileTask, binary: Compilation | None, rejected: Counter[str]) -> bool:
    """Whether it compiled, fits, and is not known to be bad."""
    bad = KNOWN_BAD.get((gpu.arch.name, task.kernel))
    if binary is None:
        return False
    if bad and bad[0](task.choice):
        rejected["known bad"] += 1
    elif binary.outcome != "compiled":
        rejected[binary.outcome] += 1
    elif too_large(binary, gpu.arch):
        rejected["resources"] += 1
    else:
        return True
    return False


def _distinct(
    fits: Sequence[CompileTask], found: Mapping[str, Compilation], rejected: Counter[str]
) -> list[CompileTask]:
    """Those that are no other's program, and do not spill where others spill less."""
    first: dict[str, CompileTask] = {}
    for task in fits:
        first.setdefault(found[task.name].code, task)
    rejected["duplicate"] += len(fits) - len(first)
    left = list(first.values())
    least = min((found[task.name].stack for task in left), default=0)
    light = [task for task in left if found[task.name].stack < max(HEAVY_SPILL, least + 1)]
    rejected["spill"] += len(left) - len(light)
    return light


def score(task: CompileTask, binary: Compilation, gpu: Gpu) -> float:
    """Relative time: the same work, split over the programs of the launch, in waves over the multiprocessors.

    A warp uses one of four tensor cores; slower instructions take longer; stack traffic is work besides. It ranks by the binary
    alone, and knows nothing of memory or latency.
    """
    resident = occupancy(binary, gpu.arch)
    if not resident:
        return math.inf
    sharing = min(resident, math.ceil(task.programs / gpu.sm_count))
    waves = math.ceil(task.programs / (gpu.sm_count * sharing))
    busy = min(1.0, sharing * task.choice.num_warps / 4)
    products, name = parameters()["products"], gpu.arch.family(binary.tensor_core)
    slower = name == "mma" and gpu.arch.families[0] != "mma"
    rate = products["mma_where_slower" if slower else name] if name else 1.0
    return waves * sharing / task.programs / busy / rate * (1 + binary.stack / 512)
