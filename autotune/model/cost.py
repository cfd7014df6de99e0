"""The cost model of tier C: roofline, occupancy, waves and the length of the chain. It ranks; it does not predict.

A multiprocessor holds as many programs as registers, shared memory, warps and slots allow. A step of these takes as long as
the scarcest of tensor cores, multiply-adds, exponentials, stack traffic and bandwidth, and no less than one of them takes
alone, its dependent products in a row. Programs run in waves. The whole takes no less than its bytes at full bandwidth.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from ...specs.gpus import Architecture, Gpu
from ..compile.binary import Compilation
from ..compile.prune import family
from ..space.points import Point
from .op_counts import OpCounts, op_counts

SUB_CORES = 4
"""Of a multiprocessor or compute unit, each with its own tensor core; a warp uses one."""


@cache
def parameters() -> dict[str, dict[str, float]]:
    """The model's assumptions, from `cost.toml`."""
    return tomllib.loads(Path(__file__).with_name("cost.toml").read_text(encoding="utf-8"))


def occupancy(binary: Compilation, arch: Architecture) -> int:
    """Programs that a multiprocessor holds at once; 0 for one that cannot be launched. The formula of cuda_occupancy.h."""
    warps = -(-binary.threads // arch.warp)
    granule = arch.registers_granule
    per_warp = max(granule, -(-binary.registers * arch.warp // granule) * granule)
    by_registers = arch.registers_per_sm // SUB_CORES // per_warp * SUB_CORES // warps
    taken = -(-(binary.shared + arch.shared_reserved) // 128) * 128
    by_shared = arch.shared_per_sm // taken if taken else arch.blocks_per_sm
    return min(by_registers, by_shared, arch.warps_per_sm // warps, arch.blocks_per_sm)


def estimate(point: Point, binary: Compilation, gpu: Gpu, tokens: np.ndarray, heads: np.ndarray) -> np.ndarray:
    """Milliseconds [sizes] of one run of a stage, for sequences of `tokens` and `heads` = sequences x value heads, both [sizes].

    Raises ValueError for a binary that cannot be launched.
    """
    return milliseconds(
        op_counts(point, tokens, heads),
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
    p: dict[str, Any] = parameters()
    solver = 0.0 if inversion == "ieee" else p["products"][inversion]
    # Few programs do not fill a multiprocessor, whatever it could hold.
    sharing = np.clip(np.ceil(job.programs / gpu.sm_count), 1, resident)
    waves = np.ceil(job.programs / (gpu.sm_count * sharing))
    # One program waits for its own products; others beside it fill the gaps, until something is used up.
    alone = _latency(job, num_stages, p) + _throughput(job, binary, gpu, np.ones_like(sharing), fp32, solver, p)
    step = np.maximum(_throughput(job, binary, gpu, sharing, fp32, solver, p), alone)
    streaming = (job.own + job.shared / p["memory"]["cached"]) * job.programs * job.steps
    floor = streaming / (gpu.bandwidth_gbs * 1e9 * p["memory"]["efficiency"])
    return 1e3 * (np.maximum(waves * job.steps * step, floor) + p["latency"]["launch"] * 1e-6)


def _throughput(
    job: OpCounts, binary: Compilation, gpu: Gpu, sharing: np.ndarray, fp32: bool, solver_rate: float, p: dict[str, Any]
) -> np.ndarray:
    """Seconds of one step of `sharing` programs side by side on a multiprocessor, by the scarcest resource.

    solver_rate: of the solver's products, as a fraction of bf16's; 0 where they are plain multiply-adds.
    """
    clock = gpu.clock_mhz * 1e6
    busy = np.minimum(1.0, sharing * (binary.threads // gpu.arch.warp) / SUB_CORES)
    tensor = gpu.bf16_tflops * 1e12 / gpu.sm_count * busy * _efficiency(binary, gpu.arch, p)
    fma = gpu.fp32_tflops * 1e12 / gpu.sm_count * busy * p["products"]["fma"]
    plain = fp32 or not family(binary, gpu.arch)
    products = job.products / (fma if plain else tensor)
    solver = job.solver / (tensor * solver_rate if solver_rate else fma)
    elementwise = job.elements * p["elementwise"]["operations"] * 2 / fma
    exponentials = (
        job.elements * p["elementwise"]["exponentials"] / (p["elementwise"]["exponentials_per_clock"] * clock)
    )
    stack = 2.0 * binary.stack * binary.threads / (p["memory"]["stack_per_clock"] * clock)
    bytes_per_second = gpu.bandwidth_gbs * 1e9 * p["memory"]["efficiency"] / gpu.sm_count
    memory = (job.own + job.shared / p["memory"]["cached"]) / bytes_per_second
    # Multiply-adds, exponentials and stack traffic are issued by the same warps; products and memory run beside them.
    issued = elementwise + exponentials + stack
    if solver_rate:
        products += solver
    else:
        issued += solver
    return sharing * np.maximum(np.maximum(products, issued), memory)


def _latency(job: OpCounts, num_stages: int, p: dict[str, Any]) -> float:
    """Seconds that one step spends waiting."""
    wait = p["latency"]["prefetched" if num_stages > 1 else "memory"]
    return 1e-6 * (job.chain * p["latency"]["product"] + job.exchanges * p["latency"]["exchange"] + wait)


def _efficiency(binary: Compilation, arch: Architecture, p: dict[str, Any]) -> float:
    name = family(binary, arch) or arch.families[-1]
    slower = name == "mma" and arch.families[0] != "mma"
    return p["products"]["mma_where_slower" if slower else name]
