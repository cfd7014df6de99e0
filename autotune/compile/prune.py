"""Which compiled points leave before any timing, and why: they do not fit, they spill, or they are the program of another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from ...results.schema.gpus import Resources, over_limit
from ...results.schema.record import Reason
from ...specs.gpus import Architecture
from ...verify.compile.compilation import Compilation
from ...verify.compile.diagnostics import HEAVY_SPILL
from ..space.points import Family, Point, breadth_first

_Group = tuple[Family, str, int]
"""family, stage, chunk size: points that can stand in for each other"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A point that left. detail: one line."""

    reason: Reason
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The compiled points that are kept, those rejected, and warnings: points that lost the fast tensor-core instructions."""

    survivors: Mapping[Point, Compilation]
    rejected: Mapping[Point, Rejection]
    warned: Mapping[Point, str]

    @property
    def launchable(self) -> int:
        """Points that compiled and fit."""
        return len(self.survivors) + sum(left.reason in ("spill", "duplicate") for left in self.rejected.values())


def prune(found: Mapping[Point, Compilation], arch: Architecture) -> Pruned:
    """Reject, in this order: points that did not compile, do not fit, have a known hazard, or were assembled wrongly; duplicates;
    heavy spillers.

    A heavy spiller stays where nothing else of its stage and chunk size spills less; so does the safe default, which
    all losses are stated against.
    """
    rejected: dict[Point, Rejection] = {}
    groups: dict[_Group, dict[Point, Compilation]] = defaultdict(dict)
    for point in breadth_first(found):
        binary = found[point]
        if binary.outcome != "compiled":
            rejected[point] = Rejection(reason=binary.outcome, detail=binary.detail)
        elif too_much := too_large(binary, arch):
            rejected[point] = Rejection(reason="resources", detail=too_much)
        elif binary.hazard:
            rejected[point] = Rejection(reason="race", detail=binary.hazard)
        elif binary.misassembled:
            rejected[point] = Rejection(reason="assembler", detail=binary.misassembled)
        else:
            groups[point.family, point.stage, point.chunk_size][point] = binary
    survivors: dict[Point, Compilation] = {}
    warned: dict[Point, str] = {}
    for group in groups.values():
        first: dict[str, Point] = {}
        for point, binary in group.items():
            same = first.setdefault(binary.code, point)
            if same is not point:
                detail = f"same machine code as {same.config.token}"
                rejected[point] = Rejection(reason="duplicate", detail=detail)
        distinct = {point: group[point] for point in first.values()}
        least = min(binary.stack for binary in distinct.values())
        for point, binary in distinct.items():
            if binary.stack >= HEAVY_SPILL and binary.stack > least and not point.is_default:
                detail = f"{binary.stack} bytes of stack per thread; {least} with another tile"
                rejected[point] = Rejection(reason="spill", detail=detail)
            else:
                survivors[point] = binary
        warned.update(_slow_products({point: survivors[point] for point in distinct if point in survivors}, arch))
    return Pruned(survivors=survivors, rejected=rejected, warned=warned)


def too_large(binary: Compilation, arch: Architecture) -> str | None:
    """The resource of which a program needs more than an architecture has, or None."""
    registers = arch.registers_of_program(binary.registers, -(-binary.threads // arch.warp))
    needs = Resources(shared=binary.shared, registers=registers, threads=binary.threads)
    return over_limit(needs, arch.name, shared=arch.shared_per_block, registers=arch.registers_per_block)


def _slow_products(group: Mapping[Point, Compilation], arch: Architecture) -> dict[Point, str]:
    """Points whose products run on a slower family of instructions than those of others in their group."""
    best = {point: arch.family(binary.tensor_core) for point, binary in group.items()}
    ranks = [*arch.families, ""]
    fastest = min(map(ranks.index, best.values()), default=0)
    return {
        point: f"products run on {name or 'plain multiply-adds'}, with other tiles on {ranks[fastest]}"
        for point, name in best.items()
        if ranks.index(name) > fastest
    }
