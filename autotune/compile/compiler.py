"""The tasks of the compiling processes: name the programs of a point, and compile one of them for a GPU that need not be there.

A call with states, a call without, and the second walk of training launch other programs of one kernel. The first is the one
that a point's costs are read off; all are judged, since the assembler has gone wrong on calls without states alone.

Kernels are imported inside the functions: a process must first be told that it is not one for Triton's interpreter.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from ...kernels.launches.instructions import read as read_instructions
from ...verify.compile.overlaps import products_in_flight
from ...verify.compile.process import CompileTarget, compile_clean, since
from ...verify.compile.tasks import ptxas_version
from ...verify.ptx.digest import program_digest
from ...verify.ptx.static.machine_code import misassembled
from .binary import Compilation

if TYPE_CHECKING:
    from ...kernels.configs.launch_config import LaunchConfig
    from ...kernels.launches.compile import Launch
    from ..space.points import Family, Point

OUT_OF_MEMORY = 75
"""Exit code of a process that ran out of memory, or whose assembler was killed, as the kernel does when it runs out."""
_KILLED = re.compile(r"error code (-9|137)\b")

_recorded: dict[tuple[Family, str], dict[str, list[Launch]]] = {}


def name_points(points: Sequence[Point], target: CompileTarget) -> list[list[str]]:
    """The cache keys of every point's programs, that of the call with states first: Triton's version, the specialised kernel
    with all it calls, its options, the target."""
    import triton

    def name(launch: Launch) -> str:
        words = (triton.__version__, launch.source().hash(), repr(sorted(launch.options.items())), repr(target))
        return hashlib.sha256("\0".join(words).encode()).hexdigest()

    return [[name(launch) for launch in _launches(point)] for point in points]


def compile_point(point: Point, target: CompileTarget, index: int) -> Compilation:
    """Compile one program of a point, by its place among the names, as `compiled` does."""
    return compiled(_launches(point)[index], target, point.tile.num_warps)


def compiled(launch: Launch, target: CompileTarget, num_warps: int) -> Compilation:
    """Compile a launch. A refusal of the compiler is an outcome; a full disk or a missing tool raises OSError.

    Where memory ends, the process does: that says something of this machine, nothing of the launch.
    """
    started, used = time.monotonic(), _cpu()
    try:
        binary = compile_clean(launch, target)
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or _KILLED.search(str(error)):
            os._exit(OUT_OF_MEMORY)
        detail = f"{type(error).__name__}: {error}"[-500:]
        return Compilation(outcome="compile", seconds=since(started), cpu=round(_cpu() - used, 3), detail=detail)
    return Compilation(
        outcome="compiled",
        seconds=since(started),
        cpu=round(_cpu() - used, 3),
        shared=binary.shared,
        registers=binary.registers,
        stack=binary.stack,
        threads=num_warps * target[2],
        tensor_core=binary.tensor_core,
        code=hashlib.sha256(binary.code).hexdigest()[:32],
        program=program_digest(binary.assembly),
        assembler=ptxas_version(target) or "",
        hazard=products_in_flight(binary.assembly) if target[0] == "cuda" else "",
        misassembled=misassembled(binary.code, launch.name) if target[0] == "cuda" else "",
        instructions=read_instructions(binary.code) if target[0] == "cuda" else None,
    )


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


def _cpu() -> float:
    """Processor time of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
