"""Stage 1: the scores of a chunk and the inverse that orders its writes.

    Aqk = scale * tril(q_i . k_j exp(G_i - G_j))        T = stril(e_i . k_j exp(G_i - G_j))        A = (I + T)^-1

(GDN-2 Eq. 36-40). The inverse doubles its blocks: with A the inverse of the diagonal blocks of h rows, and T_h the part
of T that joins two neighbours, A - A T_h A is the inverse of the blocks of 2h rows. Erase keys are negated here, so that -T
is what is summed.
"""

import torch
import triton
import triton.language as tl

from ...arguments.layout import Layout
from ...arguments.shapes import Shapes
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_config import LaunchConfig
from ...configs.launch_options import launch_options
from ..device.decay import load_decay, pair_decay
from ..device.dyadic import (
    blocks_to_tile,
    blockwise_inverse,
    dyadic_scores,
    exponentials,
    load_sixteen,
    near_scores,
    tile_to_blocks,
)


@triton.jit
def erase_key(b, k_tile, start, rows, head, row, channel, B: tl.constexpr, K: tl.constexpr, ERASE: tl.constexpr):
    """e = b * k [C, BK], and the gate b [C, BK] or [C, 1]."""
    if ERASE == CHANNEL:
        at = b + ((start + row[:, None]) * B + head) * K + channel[None, :]
        gate = tl.load(at, mask=(row[:, None] < rows) & (channel[None, :] < K), other=0.0).to(tl.float32)
    else:
        gate = tl.load(b + (start + row[:, None]) * B + head, mask=row[:, None] < rows, other=0.0).to(tl.float32)
    return gate * k_tile, gate


@triton.jit
def scores_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    aqk,  # [tokens, HV, C]
    a,  # [tokens, HV, C]
    chunks,  # [M, 2]
    scale,
    H: tl.constexpr,
    HV: tl.constexpr,
    G: tl.constexpr,
    B: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    LEVELS: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    SOLVER: tl.constexpr,
):
    # One program: one (chunk, value head), all of K.
    i_c = tl.program_id(0)
    i_hv = tl.program_id(1)
    start = tl.load(chunks + 2 * i_c)
    rows = tl.load(chunks + 2 * i_c + 1)
    if rows == 0:
        return
    i_h = i_hv // (HV // H)
    i_g = i_hv // (HV // G)
    i_b = i_hv // (HV // B)
    row = tl.arange(0, C)
    s_qk = tl.zeros([C, C], tl.float32)
    s_kk = tl.zeros([C, C], tl.float32)
    near_kk = tl.zeros([C // 16, 16, 16], tl.float32)
    if DECAY == CHANNEL:
        diagonal = tl.zeros([C // 16, 16, 16], tl.float32)
        level = tl.zeros([C // 16, 16, 8], tl.float32)
        near = (level, level, level, level)
    for first in range(0, K, BK):
        channel = first + tl.arange(0, BK)
        if DECAY == CHANNEL:
            x = load_sixteen(q, start, rows, i_h, channel, C, H, K, CHANNEL)
            y = load_sixteen(k, start, rows, i_h, channel, C, H, K, CHANNEL)
            decay = exponentials(load_sixteen(g, start, rows, i_g, channel, C, G, K, CHANNEL))
            e = ()
            if ERASE != NONE:
                gate = load_sixteen(b, start, rows, i_b, channel, C, B, K, ERASE)
                for j in tl.static_range(16):
                    e = e + (-gate[j] * y[j],)
            diagonal, near, s_qk, s_kk, _, _, _, _ = dyadic_scores(
                diagonal, near, s_qk, s_kk, x, e, y, decay, row, LEVELS, ERASE, k.dtype.element_ty
            )
        else:
            inside = (row[:, None] < rows) & (channel[None, :] < K)
            at = ((start + row[:, None]) * H + i_h) * K + channel[None, :]
            q_tile = tl.load(q + at, mask=inside, other=0.0)
            k_tile = tl.load(k + at, mask=inside, other=0.0)
            key = tl.trans(k_tile)
            s_qk += tl.dot(q_tile, key, input_precision="ieee")
            if ERASE != NONE:
                e, _ = erase_key(b, k_tile.to(tl.float32), start, rows, i_b, row, channel, B, K, ERASE)
                s_kk -= tl.dot(e.to(k.dtype.element_ty), key, input_precision="ieee")
    if DECAY == CHANNEL:
        near_qk, near_kk = near_scores(diagonal, near)
        s_qk += blocks_to_tile(near_qk)
    elif DECAY == SCALAR:
        here, _ = load_decay(g, start, rows, i_g, row, row, G, K, DECAY)
        factor = pair_decay(here, row)
        s_qk *= factor
        s_kk *= factor
    at = ((start + row[:, None]) * HV + i_hv) * C + row[None, :]
    s_qk = tl.where(row[:, None] >= row[None, :], s_qk * scale, 0.0)
    tl.store(aqk + at, s_qk.to(aqk.dtype.element_ty), mask=row[:, None] < rows)
    if ERASE != NONE:
        if DECAY != CHANNEL:
            near_kk = tile_to_blocks(s_kk)
        inverse = blockwise_inverse(near_kk, s_kk, row, LEVELS, SOLVER)
        tl.store(a + at, inverse.to(a.dtype.element_ty), mask=row[:, None] < rows)


def scores(
    q: torch.Tensor,
    k: torch.Tensor,
    g: torch.Tensor | None,
    b: torch.Tensor | None,
    *,
    scale: float,
    solver: str,
    shapes: Shapes,
    layout: Layout,
    config: LaunchConfig,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(Aqk, A), each [tokens, HV, C] in q's dtype; A is empty for a rule that erases nothing. solver: of I + T."""
    tile = config.scores
    aqk = q.new_empty(shapes.tokens, shapes.HV, config.chunk_size)
    a = torch.empty_like(aqk) if b is not None else q.new_empty(0)
    scores_kernel[(layout.chunks.shape[0], shapes.HV)](
        q=q,
        k=k,
        g=g,
        b=b,
        aqk=aqk,
        a=a,
        chunks=layout.chunks,
        scale=scale,
        C=config.chunk_size,
        BK=min(tile.block, shapes.K_block),
        LEVELS=config.chunk_size.bit_length() - 1,
        SOLVER=solver,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "DECAY", "ERASE"),
    )
    return aqk, a
