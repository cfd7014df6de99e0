"""Instructions and traffic of one call as compiled for a GPU that is not there, by launch, counted on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ..cases.replay import Case
from ..ptx.loops import CountedLoop
from ..ptx.schedules import ROUND_ROBIN
from ..ptx.verdict import PtxVerdict
from . import execute
from .compiled import launched

if TYPE_CHECKING:
    from ...kernels.registry import Kernel

SECTOR = 32
"""Bytes: the unit in which global memory is moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchCounts:
    """One launch. Sums over all its programs.

    sectors: of 32 bytes, that warps touch in global memory, an access at a time. used: bytes of these that any lane asks for.
    passes: over the banks of shared memory. ideal: passes that as many bytes need without conflicts. products: multiply-adds
    of tensor cores. instructions: of warps, in PTX. loops: trips of one warp of one program on average.
    """

    kernel: str
    programs: int
    sectors_read: int
    sectors_written: int
    used: int
    passes: int
    ideal: int
    products: int
    instructions: int
    loops: tuple[tuple[str, float], ...]

    @classmethod
    def of(cls, verdict: PtxVerdict) -> LaunchCounts:
        count: Mapping[str, int] = verdict.traffic

        def trips(loop: CountedLoop) -> float:
            return loop.trips / max(1, count["programs"] * verdict.warps)

        return cls(
            kernel=verdict.kernel,
            programs=count["programs"],
            sectors_read=count["global_load_sectors"],
            sectors_written=count["global_store_sectors"],
            used=count["global_load_used"] + count["global_store_used"],
            passes=count["shared_load_passes"] + count["shared_store_passes"],
            ideal=count["shared_load_ideal"] + count["shared_store_ideal"],
            products=count["wgmma_products"] + count["mma_products"],
            instructions=count["warp_instructions"],
            loops=tuple((loop.source, trips(loop)) for loop in verdict.loops),
        )

    @property
    def moved(self) -> int:
        """Bytes of the sectors."""
        return SECTOR * (self.sectors_read + self.sectors_written)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallCounts:
    """The launches of one call. rows: tokens times value heads, which figures are given for."""

    target: str
    kernel: str
    config: str
    problem: Problem
    rows: int
    launches: tuple[LaunchCounts, ...]

    def document(self) -> dict[str, Any]:
        """The counts as JSON. Figures are those of a launch; `per_row` those of a token and value head."""
        return {
            "target": self.target,
            "kernel": self.kernel,
            "config": self.config,
            "problem": self.problem.token,
            "rows": self.rows,
            "launches": [
                {
                    "kernel": launch.kernel,
                    "programs": launch.programs,
                    "sectors_read": launch.sectors_read,
                    "sectors_written": launch.sectors_written,
                    "bytes_moved": launch.moved,
                    "bytes_used": launch.used,
                    "wavefronts": launch.passes,
                    "wavefronts_ideal": launch.ideal,
                    "products": launch.products,
                    "instructions": launch.instructions,
                    "loops": [{"source": source, "trips": round(trips, 2)} for source, trips in launch.loops],
                    "per_row": {
                        "bytes_moved": round(launch.moved / self.rows, 2),
                        "bytes_used": round(launch.used / self.rows, 2),
                        "wavefronts": round(launch.passes / self.rows, 3),
                        "products": round(launch.products / self.rows, 1),
                        "instructions": round(launch.instructions / self.rows, 2),
                    },
                }
                for launch in self.launches
            ],
        }


def count(target: str, kernel: Kernel, case: Case, device: str) -> CallCounts:
    """Count one forward call as compiled for an architecture, "sm_90". Operations of torch and copies of TMA are not counted.

    Raises KernelRaised, for a broken rule too, and Unsupported for an instruction that the engine does not know.
    """
    problem = case.problem
    made = execute.tensors(problem, generate(problem))
    trusting = replace(kernel, run=partial(kernel.run, **kernel.trusting))
    _, verdicts = launched(device, lambda: execute.run(trusting, case, made, gradients=False), schedules=(ROUND_ROBIN,))
    return CallCounts(
        target=target,
        kernel=kernel.name,
        config=case.config_token,
        problem=problem,
        rows=problem.T * problem.B * problem.HV,
        launches=tuple(LaunchCounts.of(verdict) for verdict in verdicts[: kernel.launches] if verdict.traffic),
    )
