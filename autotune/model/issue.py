"""How long counted instructions keep a scheduler and its pipes busy, and how long one warp takes to issue them alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...results.schema.instructions import Instructions
from ...specs.gpus import Gpu
from .op_counts import OpCounts

WARP = 32
FP32 = "fp32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Issue:
    """Cycles of one warp. busy: of its scheduler, or of the pipe that is most asked for. alone: where no other warp fills the
    cycles that it waits.
    """

    busy: float
    alone: float


def issue(counts: Mapping[str, int], gpu: Gpu, p: Mapping[str, Any]) -> Issue:
    """The cycles of these instructions, by class. p: the `issue` table of the model's parameters."""
    lanes = gpu.fp32_tflops * 1e12 / (2 * gpu.sm_count * gpu.clock_mhz * 1e6)
    pipes = [sum(counts.get(name, 0) * cycles for name, cycles in pipe.items()) for pipe in p["pipes"].values()]
    slots = sum(counts.values()) / p["rate"]
    stalls = sum(count * p["stalls"].get(name, p["stalls"]["other"]) for name, count in counts.items())
    return Issue(busy=max(slots, counts.get(FP32, 0) * 4 * WARP / lanes, *pipes), alone=stalls)


def step(instructions: Instructions, job: OpCounts) -> Mapping[str, int]:
    """Instructions of one warp in one step, by class; in all of a program whose longest loop does not go over the steps.

    The instructions before and after a loop over steps are left to the cost of a launch: recorded products do not show them.
    """
    serial = instructions.serial if job.serial else None
    if serial is None:
        return instructions.issued(lambda _: job.trips)
    return {
        name: -(-count // instructions.unrolled)
        for name, count in instructions.step(serial, lambda _: job.trips).items()
    }
