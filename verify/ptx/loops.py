"""How often the loops of a program ran, read off the counts of its statements."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .assembly.text import PtxKernel


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedLoop:
    """One loop. source: the line of its first statement that has one. trips: of all warps of all programs together."""

    source: str
    trips: int


def loops(kernel: PtxKernel, executed: np.ndarray) -> tuple[CountedLoop, ...]:
    """The loops of a kernel, which end with a branch back, by their first statements.

    executed: times that a warp executed each statement.
    """
    ends: dict[int, int] = {}
    for index, statement in enumerate(kernel.statements):
        if statement.parts[0] == "bra" and (first := kernel.labels.get(statement.operands[-1], index + 1)) <= index:
            ends[first] = index
    return tuple(
        CountedLoop(
            source=next((x.source for x in kernel.statements[first : end + 1] if x.source), ""),
            trips=int(executed[first]),
        )
        for first, end in sorted(ends.items())
    )
