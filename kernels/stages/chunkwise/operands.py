"""Stage 2: what the walks over the chunks multiply, made for all chunks at once.

    Qbar = gamma q,   -Ebar = -gamma e,   Kt = (gamma_C / gamma) k,   gamma_C

(GDN-2 Eq. 41-44.) A serial step then loads, multiplies and stores. Every factor is at most 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ...arguments.layout import Layout
from ...arguments.shapes import SCALAR as SCALAR_TIE
from ...arguments.shapes import Shapes
from ...arguments.ties import CHANNEL, NONE
from ...configs.launch_config import LaunchConfig
from ...configs.launch_options import launch_options

WARPS = 1
"""Of a program: no product is made here, and no tile is searched."""
UNROLL = tl.constexpr(4)


class Operands(NamedTuple):
    """queries, erasers, keys: Qbar, -Ebar and Kt [tokens, HV, K], in the dtype of q; erasers are None without an erase gate.

    total: the decay of each chunk, fp32 [M, HV] or [M, HV, K]; None without a decay.
    """

    queries: torch.Tensor
    erasers: torch.Tensor | None
    keys: torch.Tensor
    total: torch.Tensor | None


@triton.jit
def operands_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    queries,  # [tokens, HV, K]
    erasers,  # [tokens, HV, K]
    keys,  # [tokens, HV, K]
    total,  # [M, HV] or [M, HV, K]
    chunks,  # [M, 2]
    H: tl.constexpr,
    HV: tl.constexpr,
    G: tl.constexpr,
    B: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    KP: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
):
    # One program: one (chunk, value head), down the rows and up again.
    i_c = tl.program_id(0).to(tl.int64)
    i_hv = tl.program_id(1)
    start = tl.load(chunks + 2 * i_c)
    rows = tl.load(chunks + 2 * i_c + 1)
    if rows == 0:
        return
    i_h = i_hv // (HV // H)
    i_g = i_hv // (HV // G)
    i_b = i_hv // (HV // B)
    channel = tl.arange(0, KP)
    until = tl.zeros([KP], tl.float32)
    for i in tl.range(0, C, loop_unroll_factor=UNROLL):
        inside = (i < rows) & (channel < K)
        until += load_row(g, start + i, i < rows, i_g, channel, G, K, DECAY)
        up = tl.exp(until)
        at = ((start + i) * HV + i_hv) * K + channel
        x = load_row(q, start + i, i < rows, i_h, channel, H, K, CHANNEL)
        tl.store(queries + at, (x * up).to(queries.dtype.element_ty), mask=inside)
        if ERASE != NONE:
            y = load_row(k, start + i, i < rows, i_h, channel, H, K, CHANNEL)
            gate = load_row(b, start + i, i < rows, i_b, channel, B, K, ERASE)
            tl.store(erasers + at, (-(gate * y) * up).to(erasers.dtype.element_ty), mask=inside)
    if DECAY == CHANNEL:
        tl.store(total + (i_c * HV + i_hv) * K + channel, tl.exp(until), mask=channel < K)
    elif DECAY != NONE:
        tl.store(total + i_c * HV + i_hv + channel, tl.exp(until), mask=channel == 0)
    after = tl.zeros([KP], tl.float32)
    for step in tl.range(0, C, loop_unroll_factor=UNROLL):
        i = C - 1 - step
        y = load_row(k, start + i, i < rows, i_h, channel, H, K, CHANNEL)
        at = ((start + i) * HV + i_hv) * K + channel
        tl.store(keys + at, (y * tl.exp(after)).to(keys.dtype.element_ty), mask=(i < rows) & (channel < K))
        after += load_row(g, start + i, i < rows, i_g, channel, G, K, DECAY)


@triton.jit
def load_row(x, token, there, head, channel, HEADS: tl.constexpr, K: tl.constexpr, TIE: tl.constexpr):
    """A row of one head of x [tokens, HEADS, K], or its number where x is one per head, as fp32 [channels]; 0 if not there."""
    if TIE == CHANNEL:
        value = tl.load(x + (token * HEADS + head) * K + channel, mask=there & (channel < K), other=0.0)
    elif TIE == NONE:
        value = tl.zeros_like(channel)
    else:
        value = tl.load(x + (token * HEADS + head) + tl.zeros_like(channel), mask=there & (channel < K), other=0.0)
    return value.to(tl.float32)


@triton.jit
def load_operand(x, start, rows, head, row, channel, HV: tl.constexpr, WIDTH: tl.constexpr):
    """Rows of one head of x [tokens, HV, WIDTH] as they are [C, channels]; 0 outside."""
    at = x + ((start + row[:, None]) * HV + head) * WIDTH + channel[None, :]
    if channel.shape[0] == WIDTH:
        return tl.load(at, mask=tl.broadcast_to(row[:, None] < rows, at.shape), other=0.0)
    else:
        return tl.load(at, mask=(row[:, None] < rows) & (channel[None, :] < WIDTH), other=0.0)


@triton.jit
def load_total(total, i_c, head, channel, HV: tl.constexpr, K: tl.constexpr, DECAY: tl.constexpr):
    """The decay of a chunk [channels, 1], or a number; 1 without a decay."""
    if DECAY == CHANNEL:
        return tl.load(total + (i_c * HV + head) * K + channel, mask=channel < K, other=1.0)[:, None]
    elif DECAY == NONE:
        return 1.0
    else:
        return tl.load(total + i_c * HV + head)


def operands(
    q: torch.Tensor,
    k: torch.Tensor,
    g: torch.Tensor | None,
    b: torch.Tensor | None,
    *,
    shapes: Shapes,
    layout: Layout,
    config: LaunchConfig,
) -> Operands:
    """`Operands` of q, k [tokens, H, K], g [tokens, G(, K)] and b [tokens, B(, K)]."""
    wide = (q.shape[0], shapes.HV, shapes.K)
    M = layout.chunks.shape[0]
    channels = () if shapes.DECAY == SCALAR_TIE else (shapes.K,)
    made = Operands(
        queries=q.new_empty(wide),
        erasers=None if b is None else q.new_empty(wide),
        keys=q.new_empty(wide),
        total=None if g is None else q.new_empty(M, shapes.HV, *channels, dtype=torch.float32),
    )
    operands_kernel[(M, shapes.HV)](
        q=q,
        k=k,
        g=g,
        b=b,
        **made._asdict(),
        chunks=layout.chunks,
        C=config.chunk_size,
        KP=shapes.K_block,
        **launch_options(WARPS),
        **shapes.constants("H", "HV", "G", "B", "K", "DECAY", "ERASE"),
    )
    return made
