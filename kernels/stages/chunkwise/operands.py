"""Stage 2: the operands of the walks over the chunks, made for all chunks at once.

    Qbar = gamma q,   -Ebar = -gamma e,   Kt = (gamma_C / gamma) k,   gamma_C

(GDN-2 Eq. 41-44.) A serial step then loads, multiplies and stores. Every factor is at most 1.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.layout import Layout
from ...arguments.shapes import SCALAR as SCALAR_TIE
from ...arguments.ties import CHANNEL, NONE
from ...configs.launch_options import launch_options
from ..device.sixteen import decays_of_rows, load_sixteen, negated, scaled, store_sixteen

THREAD = 64
"""Elements of a tile that a thread holds. No product is made here, and no tile is searched."""


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
    # One program: one (chunk, value head).
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
    query = load_sixteen(q, start, rows, i_h, channel, C, H, K, CHANNEL)
    key = load_sixteen(k, start, rows, i_h, channel, C, H, K, CHANNEL)
    if DECAY != NONE:
        up, down, whole = decays_of_rows(load_sixteen(g, start, rows, i_g, channel, C, G, K, DECAY), C)
        query = scaled(query, up)
    store_sixteen(query, queries, start, rows, i_hv, channel, C, HV, K)
    if ERASE != NONE:
        erase = negated(scaled(load_sixteen(b, start, rows, i_b, channel, C, B, K, ERASE), key))
        if DECAY != NONE:
            erase = scaled(erase, up)
        store_sixteen(erase, erasers, start, rows, i_hv, channel, C, HV, K)
    if DECAY != NONE:
        key = scaled(key, down)
        first = tl.arange(0, C // 16)[:, None] == 0  # every row of the total is the same
        if DECAY == CHANNEL:
            at = total + (i_c * HV + i_hv) * K + tl.broadcast_to(channel[None, :], whole.shape)
            tl.store(at, whole, mask=first & (channel[None, :] < K))
        else:
            tl.store(total + i_c * HV + i_hv + tl.zeros(whole.shape, tl.int32), whole, mask=first)
    store_sixteen(key, keys, start, rows, i_hv, channel, C, HV, K)


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


def operands(call: Call, layout: Layout) -> Operands:
    """The `Operands` of a call."""
    shapes, C = call.shapes, call.config.chunk_size
    wide = (shapes.tokens, shapes.HV, shapes.K)
    M = layout.chunks.shape[0]
    channels = () if shapes.DECAY == SCALAR_TIE else (shapes.K,)
    made = Operands(
        queries=call.q.new_empty(wide),
        erasers=None if call.b is None else call.q.new_empty(wide),
        keys=call.q.new_empty(wide),
        total=None if call.g is None else call.q.new_empty(M, shapes.HV, *channels, dtype=torch.float32),
    )
    operands_kernel[(M, shapes.HV)](
        q=call.q,
        k=call.k,
        g=call.g,
        b=call.b,
        **made._asdict(),
        chunks=layout.chunks,
        C=C,
        KP=shapes.K_block,
        **launch_options(max(1, C * shapes.K_block // (32 * THREAD))),
        **shapes.constants("H", "HV", "G", "B", "K", "DECAY", "ERASE"),
    )
    return made
