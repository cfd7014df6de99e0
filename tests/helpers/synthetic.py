"""Compilations made up from a point alone, for tests that need many and no compiler."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from deltaproof.autotune.compile.stage import CompiledPoints
from deltaproof.autotune.gates.interpreter import GateAnswer, GateQuestion
from deltaproof.autotune.space.points import Family, Point, breadth_first
from deltaproof.verify.compile.compilation import Compilation

FAMILY = Family(op="chunk_fwd", rule="gdn", dtype="fp32", K=64, V=64)


def compilation(
    name: str,
    *,
    shared: int = 8192,
    registers: int = 64,
    stack: int = 0,
    threads: int = 256,
    tensor_core: str = "wgmma",
) -> Compilation:
    """A compiled point whose machine code is told by `name`."""
    return Compilation(
        outcome="compiled",
        seconds=0.5,
        shared=shared,
        registers=registers,
        stack=stack,
        threads=threads,
        tensor_core={tensor_core: 4} if tensor_core else {},
        code=hashlib.sha256(name.encode()).hexdigest()[:32],
        program=hashlib.sha256(name.encode()).hexdigest()[:32],
    )


def compile_one(point: Point) -> Compilation:
    """Deep pipelines change nothing, wide tiles on few warps spill, the widest take too much shared memory."""
    tile = point.tile
    code = f"{point.family.rule} {point.stage} {point.chunk_size} {tile.block} {tile.num_warps}"
    return compilation(
        code,
        shared=tile.block * point.chunk_size * 16,
        registers=min(255, 32 + tile.block * point.chunk_size // (4 * tile.num_warps)),
        stack=256 if tile.block >= 64 and tile.num_warps == 2 else 0,
        threads=32 * tile.num_warps,
        tensor_core="wgmma" if tile.num_warps >= 4 else "mma",
    )


def compile_all(points: Sequence[Point], *_: object, most: int | None = None, **hooks) -> CompiledPoints:
    """Stands for `compile_points`; `most` is where a budget ends."""
    found = {point: compile_one(point) for point in breadth_first(points)[:most]}
    for point, binary in found.items():
        hooks["on_point"](point, binary)
    left: dict[Family, int] = {}
    for point in points:
        if point not in found:
            left[point.family] = left.get(point.family, 0) + 1
    return CompiledPoints(found=found, left=left, ran=len(found))


def ask_none(questions: Sequence[GateQuestion], jobs: int) -> list[GateAnswer]:
    """Stands for `gate.ask`: everything holds."""
    return [GateAnswer(question=question, held=True, detail="as if") for question in questions]
