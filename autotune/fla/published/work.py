"""The work per step of each kernel of flash-linear-attention's forward pass, counted from the equations: K = V = 128, bf16."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ...model.op_counts import OpCounts
from .read import Published

DIM, SIZE, FP32 = 128, 2, 4
CHUNK, BLOCK = 64, 16
"""Rows of a chunk, and of the blocks whose inverses are made row by row."""


def _chunked(row: Published, blocks: int = 1, **work: Any) -> OpCounts:
    """A program for every chunk, value head and block."""
    chunks = sum(-(-length // CHUNK) for length in row.lengths)
    return OpCounts(programs=np.array([chunks * row.value_heads * blocks]), steps=np.array([1]), elements=0.0, **work)


def _cumsum(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    return _chunked(row, products=0.0, chain=0, own=2.0 * FP32 * CHUNK)


def _solve(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    products = 2.0 * CHUNK * CHUNK * DIM / 2
    return _chunked(row, products=products, chain=6, own=float(SIZE * CHUNK * CHUNK), shared=float(SIZE * CHUNK * DIM))


def _recompute(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    own = SIZE * CHUNK * (3 * DIM + CHUNK)
    return _chunked(row, products=4.0 * CHUNK * CHUNK * DIM, chain=1, own=float(own), shared=float(SIZE * CHUNK * DIM))


def _walk(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    block = sizes["BV"]
    longest = max(row.lengths)
    # Shorter sequences fill a program's place for as long as they last.
    programs = math.ceil(sum(row.lengths) / longest * row.value_heads * (DIM // block))
    return OpCounts(
        programs=np.array([programs]), steps=np.array([-(-longest // CHUNK)]), products=4.0 * CHUNK * DIM * block, chain=2,
        elements=0.0, own=float(SIZE * block * (2 * CHUNK + DIM)), shared=float(SIZE * 2 * CHUNK * DIM), serial=True,
    )  # fmt: skip


def _output(row: Published, sizes: Mapping[str, int]) -> OpCounts:
    block = sizes["BV"]
    products = 2.0 * CHUNK * (DIM * block + CHUNK * DIM + CHUNK * block)
    own, shared = SIZE * block * (DIM + 2 * CHUNK), SIZE * 2 * CHUNK * DIM
    return _chunked(row, DIM // block, products=products, chain=2, own=float(own), shared=float(shared))


WORK: dict[str, Callable[[Published, Mapping[str, int]], OpCounts]] = {
    "chunk_local_cumsum_scalar_kernel": _cumsum,
    "chunk_gated_delta_rule_fwd_kkt_solve_kernel": _solve,
    "recompute_w_u_fwd_kernel": _recompute,
    "chunk_gated_delta_rule_fwd_kernel_h_blockdim64": _walk,
    "chunk_fwd_kernel_o": _output,
}
"""The work of each kernel of a forward pass."""
