"""The tasks of the compiling processes: name the programs of a point, and compile one of them for a GPU that need not be there.

A call with states, a call without, and the second walk of training launch other programs of one kernel. The first is the one
that a point's costs are read off; all are judged, since the assembler has gone wrong on calls without states alone.

Kernels are imported inside the functions: a process must first be told that it is not one for Triton's interpreter.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from ...verify.compile.compilation import Compilation
from ...verify.compile.process import CompileTarget
from ...verify.compile.programs import cache_key, compiled, program_name

if TYPE_CHECKING:
    from ...kernels.configs.launch_config import LaunchConfig
    from ...kernels.launches.compile import Launch
    from ..space.points import Family, Point

_recorded: dict[tuple[Family, str], dict[str, list[Launch]]] = {}


def name_points(points: Sequence[Point], target: CompileTarget) -> list[list[str]]:
    """The cache keys of every point's programs, that of the call with states first."""
    return [[cache_key(program_name(launch), target) for launch in _launches(point)] for point in points]


def compile_point(point: Point, target: CompileTarget, index: int) -> Compilation:
    """Compile one program of a point, by its place among the names, as `compiled` does."""
    return compiled(_launches(point)[index], target)


def _launches(point: Point) -> list[Launch]:
    """The point's launches that are different programs, with states first.

    Warps and pipeline depth are options: one recording per chunk size and block serves all.
    """
    from ...kernels.configs.launch_config import STAGES, LaunchConfig, Tile
    from ...kernels.configs.launch_options import launch_options

    family, tiles = point.family, dict.fromkeys(STAGES, Tile(block=point.tile.block))
    if point.stage == "fused":
        del tiles["scores"]  # its block cuts K there, and is not searched
    config = LaunchConfig(variant=point.variant, chunk_size=point.chunk_size, **tiles)
    if (family, config.token) not in _recorded:
        _recorded[family, config.token] = _by_stage(family, config)
    options = launch_options(point.tile.num_warps, point.tile.num_stages)
    return [replace(launch, options=options) for launch in _recorded[family, config.token][point.stage]]


def _by_stage(family: Family, config: LaunchConfig) -> dict[str, list[Launch]]:
    """The launches of a call with states and of one without, by stage, each program once; also in groups, if any."""
    from ...kernels.configs.space import GROUPS
    from ...kernels.launches.record import VARIANTS, inference_launches, op_launches
    from ...specs.rule import RULES

    configs = [config, *([replace(config, group=GROUPS[0])] if config.variant == "packed" else [])]
    found: dict[str, dict[str, Launch]] = defaultdict(dict)
    for one, bare in product(configs, (False, True)):
        call = (RULES[family.rule], family.dtype, family.K, family.V, one)
        launches = (
            inference_launches(config.variant, *call, states=not bare, packed=not bare)  # pyright: ignore[reportArgumentType]
            if config.variant in VARIANTS
            else op_launches(family.op, *call, bare=bare)  # pyright: ignore[reportArgumentType]
        )
        for launch in launches:
            found[launch.name.removesuffix("_kernel")].setdefault(launch.source().hash(), launch)
    return {stage: list(programs.values()) for stage, programs in found.items()}
