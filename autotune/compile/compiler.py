"""What runs in the compiling processes: name the launch of a point, and compile it for a GPU that need not be there.

Kernels are imported inside the functions: a process must first be told that it is not one for Triton's interpreter.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from ...verify.compile.overlaps import products_in_flight
from ...verify.compile.process import CompileTarget, compile_clean
from ...verify.compile.tasks import ptxas_version
from ...verify.ptx.digest import program_digest
from ...verify.ptx.static.machine_code import misassembled
from .binary import Compilation

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch
    from ..space.points import Family, Point

OUT_OF_MEMORY = 75
"""Exit code of a process that ran out of memory, or whose assembler was killed, as the kernel does when it runs out."""
_KILLED = re.compile(r"error code (-9|137)\b")

_launches: dict[tuple[Family, str], dict[str, Launch]] = {}


def name_points(points: Sequence[Point], target: CompileTarget) -> list[str]:
    """The cache key of every point: Triton's version, the specialised kernel with all it calls, its options, the target."""
    import triton

    names = []
    for point in points:
        launch = _launch(point)
        words = (triton.__version__, launch.source().hash(), repr(sorted(launch.options.items())), repr(target))
        names.append(hashlib.sha256("\0".join(words).encode()).hexdigest())
    return names


def compile_point(point: Point, target: CompileTarget) -> Compilation:
    """Compile one point, as `compiled` does."""
    return compiled(_launch(point), target, point.tile.num_warps)


def compiled(launch: Launch, target: CompileTarget, num_warps: int) -> Compilation:
    """Compile a launch. What the compiler refuses is an outcome; a full disk or a missing tool raises OSError.

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
        return Compilation(outcome="compile", seconds=_since(started), cpu=round(_cpu() - used, 3), detail=detail)
    return Compilation(
        outcome="compiled",
        seconds=_since(started),
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
    )


def _launch(point: Point) -> Launch:
    """The point's launch. Warps and pipeline depth are options: one recording per chunk size, solver and block serves all."""
    from ...kernels.configs.launch_config import STAGES, LaunchConfig, Tile
    from ...kernels.configs.launch_options import launch_options
    from ...kernels.launches.record import VARIANTS, inference_launches, op_launches
    from ...specs.rule import RULES

    family, tiles = point.family, dict.fromkeys(STAGES, Tile(block=point.tile.block))
    if point.stage == "fused":
        del tiles["scores"]  # its block cuts K there, and is not searched
    config = LaunchConfig(variant=point.variant, chunk_size=point.chunk_size, solver=point.solver, **tiles)
    if (family, config.token) not in _launches:
        found: dict[str, Launch] = {}
        call = (RULES[family.rule], family.dtype, family.K, family.V, config)
        inference = point.variant in VARIANTS
        for launch in inference_launches(point.variant, *call) if inference else op_launches(family.op, *call):  # pyright: ignore[reportArgumentType]
            # Training walks the states twice; the backward's walk differs only in storing no final state.
            found.setdefault(launch.name.removesuffix("_kernel"), launch)
        _launches[family, config.token] = found
    launch = _launches[family, config.token][point.stage]
    return replace(launch, options=launch_options(point.tile.num_warps, point.tile.num_stages))


def _cpu() -> float:
    """Processor time of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _since(started: float) -> float:
    return round(time.monotonic() - started, 3)
