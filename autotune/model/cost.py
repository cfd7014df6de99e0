"""The cost model of tier C: roofline, occupancy, waves, the length of the chain and the depth of the pipeline.

A multiprocessor holds as many programs as registers, shared memory, warps and slots allow. A step of one takes as long as the
scarcest of tensor cores, the instructions counted in the binary, and bandwidth; as its dependent products in a row; and as its
operands take to come, divided by the steps that they are asked for ahead. Other programs fill the cycles that one of them waits.
Where instructions cannot be counted, multiply-adds, exponentials and stack traffic are assumed by the element.
The whole takes no less than its bytes at full bandwidth. It ranks; it predicts the time of a matrix product only.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...specs.gpus import Architecture, Gpu
from ...verify.compile.compilation import Compilation
from ..space.points import Point
from .issue import Issue, issue, step
from .op_counts import OpCounts, op_counts

SUB_CORES = 4
"""Of a multiprocessor or compute unit, each with its own tensor core; a warp uses one."""


@cache
def parameters() -> dict[str, Any]:
    """The model's assumptions, from `cost.toml`."""
    return tomllib.loads(Path(__file__).with_name("cost.toml").read_text(encoding="utf-8"))


def occupancy(binary: Compilation, arch: Architecture) -> int:
    """Programs that a multiprocessor holds at once; 0 for one that cannot be launched. The formula of cuda_occupancy.h."""
    warps = -(-binary.threads // arch.warp)
    per_warp = max(arch.registers_granule, arch.registers_of_warp(binary.registers))
    by_registers = arch.registers_per_sm // SUB_CORES // per_warp * SUB_CORES // warps
    taken = -(-(binary.shared + arch.shared_reserved) // 128) * 128
    by_shared = arch.shared_per_sm // taken if taken else arch.blocks_per_sm
    return min(by_registers, by_shared, arch.warps_per_sm // warps, arch.blocks_per_sm)


def estimate(
    point: Point, binary: Compilation, gpu: Gpu, tokens: np.ndarray, heads: np.ndarray, group: int = 0
) -> np.ndarray:
    """Milliseconds [sizes] of one run of a stage, for sequences of `tokens` and `heads` = sequences x value heads, both [sizes].

    group: chunks per group, where sequences are split into groups.

    Raises ValueError for a binary that cannot be launched.
    """
    return milliseconds(
        op_counts(point, tokens, heads, group),
        binary,
        gpu,
        num_stages=point.tile.num_stages,
        fp32=point.family.dtype == "fp32",
        inversion=point.inversion,
    )


def milliseconds(
    job: OpCounts, binary: Compilation, gpu: Gpu, *, num_stages: int, fp32: bool = False, inversion: str = "ieee"
) -> np.ndarray:
    """Milliseconds [sizes] of any kernel whose work is known, as asked to be compiled: `num_stages` deep.

    fp32: whether its products are in fp32. inversion: precision of the solver's products. Raises ValueError for a binary that
    cannot be launched.
    """
    resident = occupancy(binary, gpu.arch)
    if not resident:
        raise ValueError(f"a program that cannot be launched on {gpu.slug}")
    p = parameters()
    here = p["architectures"].get(gpu.arch.name, p["architectures"]["other"])
    cached, latency = here["cached"], here["latency"] * 1e-6
    solver = 0.0 if inversion == "ieee" else p["products"][inversion]
    # Few programs do not fill a multiprocessor, even if it could hold more.
    each = np.ceil(job.programs / gpu.sm_count)
    sharing = np.clip(each, 1, resident)
    waves = np.ceil(each / sharing)
    issued = issue(step(binary.instructions, job), gpu, p["issue"]) if binary.instructions else None
    busy, alone = (
        _throughput(job, binary, gpu, count, fp32, solver, cached, issued, p)
        for count in (sharing, np.ones_like(sharing))
    )
    if issued:
        chain, own = 1e-6 * job.chain * p["latency"]["drain"], issued.alone / (gpu.clock_mhz * 1e6)
        # Where products wait for each other, their program does nothing beside them.
        paced = alone + own + chain if job.chain else np.maximum(alone, own)
    else:
        paced = alone + 1e-6 * (job.chain * p["latency"]["product"] + job.exchanges * p["latency"]["exchange"])
    ahead = depth(job, binary, num_stages) - 1
    # An operand that is not requested ahead is waited for in every step, else once, before the first.
    pace = np.where(ahead > 0, np.maximum(paced, latency / np.maximum(1, ahead)), paced + latency)
    fill = np.where(ahead > 0, latency, 0.0)
    loop = job.steps * np.maximum(each * busy, waves * pace) + waves * fill
    streaming = (job.own + job.shared / cached) * job.programs * job.steps
    floor = streaming / (gpu.bandwidth_gbs * 1e9 * p["memory"]["efficiency"])
    return 1e3 * (np.maximum(loop, floor) + p["latency"]["launch"] * 1e-6)


def depth(job: OpCounts, binary: Compilation, num_stages: int) -> np.ndarray:
    """Steps [sizes] that a pipeline spans: those that it has buffers for, by its copies if they were counted, else those asked
    for if shared memory holds their operands beside the step at hand.

    Where there is one step there is nothing to span.
    """
    room = 1 + int(binary.shared // job.shared) if job.shared else 1
    held = binary.instructions.buffers if binary.instructions else room
    return np.where(job.steps > 1, min(num_stages, held), 1)


def _throughput(
    job: OpCounts, binary: Compilation, gpu: Gpu, sharing: np.ndarray, fp32: bool, solver_rate: float, cached: float,
    counted: Issue | None, p: dict[str, Any],
) -> np.ndarray:  # fmt: skip
    """Seconds that one step of each of `sharing` programs takes of a multiprocessor, by the scarcest resource.

    solver_rate: of the solver's products, as a fraction of bf16's; 0 where they are plain multiply-adds. cached: how much
    faster than memory the last-level cache is. counted: cycles of a step's instructions.
    """
    clock = gpu.clock_mhz * 1e6
    warps = binary.threads // gpu.arch.warp
    occupied = np.minimum(1.0, sharing * warps / SUB_CORES)
    tensor = gpu.bf16_tflops * 1e12 / gpu.sm_count * occupied * _efficiency(binary, gpu.arch, p)
    fma = gpu.fp32_tflops * 1e12 / gpu.sm_count * occupied * p["products"]["fma"]
    plain = fp32 or not gpu.arch.family(binary.tensor_core)
    bytes_per_second = gpu.bandwidth_gbs * 1e9 * p["memory"]["efficiency"] / gpu.sm_count
    memory = (job.own + job.shared / cached) / bytes_per_second
    # The time to issue instructions of the same warps adds up; products and memory run beside it.
    if counted:
        issued = counted.busy / clock * warps / SUB_CORES / occupied
        products = 0.0 if plain else job.products / tensor
    else:
        elementwise = job.elements * p["elementwise"]["operations"] * 2 / fma
        exponentials = (
            job.elements * p["elementwise"]["exponentials"] / (p["elementwise"]["exponentials_per_clock"] * clock)
        )
        stack = 2.0 * binary.stack * binary.threads / (p["memory"]["stack_per_clock"] * clock)
        issued = elementwise + exponentials + stack + (0.0 if solver_rate else job.solver / fma)
        products = job.products / (fma if plain else tensor)
    if solver_rate:
        products += job.solver / (tensor * solver_rate)
    return np.maximum(np.maximum(products, issued), memory) + p["latency"]["turn"] * 1e-6


def _efficiency(binary: Compilation, arch: Architecture, p: dict[str, Any]) -> float:
    name = arch.family(binary.tensor_core) or arch.families[-1]
    slower = name == "mma" and arch.families[0] != "mma"
    return p["products"]["mma_where_slower" if slower else name]
