"""Stage 1: the scores of a chunk and the inverse that orders its writes.

    Aqk = scale * tril(q_i . k_j exp(G_i - G_j))        T = stril(e_i . k_j exp(G_i - G_j))        A = (I + T)^-1

(GDN-2 Eq. 36-40). The inverse doubles its blocks: with A the inverse of the diagonal blocks of h rows, and T_h the part
of T that joins two neighbours, A - A T_h A is the inverse of the blocks of 2h rows.
"""

import torch
import triton
import triton.language as tl

from ...arguments.layout import Layout
from ...arguments.shapes import Shapes
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_config import LaunchConfig
from ...configs.launch_options import launch_options
from ..device.decay import double, load_decay, meets, pair_decay


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
def unit_lower_inverse(t, row, LEVELS: tl.constexpr, SOLVER: tl.constexpr):
    """(I + T)^-1 for a strictly lower triangular T [C, C]."""
    a = tl.where(row[:, None] == row[None, :], 1.0, tl.where(meets(row, row, 1), -t, 0.0))
    span = 2
    for _ in range(1, LEVELS):
        joint = tl.where(meets(row, row, span), t, 0.0)
        a -= tl.dot(tl.dot(a, joint, input_precision=SOLVER), a, input_precision=SOLVER)
        span *= 2
    return a


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
    row = tl.arange(0, C)
    s_qk = tl.zeros([C, C], tl.float32)
    s_kk = tl.zeros([C, C], tl.float32)
    for first in range(0, K, BK):
        channel = first + tl.arange(0, BK)
        inside = (row[:, None] < rows) & (channel[None, :] < K)
        at = ((start + row[:, None]) * H + i_h) * K + channel[None, :]
        q_tile = tl.load(q + at, mask=inside, other=0.0)
        k_tile = tl.load(k + at, mask=inside, other=0.0)
        x = q_tile.to(tl.float32)
        y = k_tile.to(tl.float32)
        if ERASE != NONE:
            e, _ = erase_key(b, y, start, rows, i_hv // (HV // B), row, channel, B, K, ERASE)
        if DECAY == CHANNEL:
            prefix, _ = load_decay(g, start, rows, i_hv // (HV // G), row, channel, G, K, DECAY)
            suffix = tl.zeros([C, BK], tl.float32)
            s_qk += tl.where(row[:, None] == row[None, :], tl.sum(x * y, 1)[:, None], 0.0)
            span = 1
            for _ in range(0, LEVELS):
                up = tl.exp(prefix)
                key = tl.trans((y * tl.exp(suffix)).to(k.dtype.element_ty))
                pair = meets(row, row, span)
                query = (x * up).to(k.dtype.element_ty)
                s_qk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
                if ERASE != NONE:
                    query = (e * up).to(k.dtype.element_ty)
                    s_kk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
                prefix, suffix = double(prefix, suffix, row, span)
                span *= 2
        else:
            key = tl.trans(k_tile)
            s_qk += tl.dot(q_tile, key, input_precision="ieee")
            if ERASE != NONE:
                s_kk += tl.dot(e.to(k.dtype.element_ty), key, input_precision="ieee")
    if DECAY == SCALAR:
        here, _ = load_decay(g, start, rows, i_hv // (HV // G), row, row, G, K, DECAY)
        factor = pair_decay(here, row)
        s_qk *= factor
        s_kk *= factor
    at = ((start + row[:, None]) * HV + i_hv) * C + row[None, :]
    s_qk = tl.where(row[:, None] >= row[None, :], s_qk * scale, 0.0)
    tl.store(aqk + at, s_qk.to(aqk.dtype.element_ty), mask=row[:, None] < rows)
    if ERASE != NONE:
        s_kk = tl.where(row[:, None] > row[None, :], s_kk, 0.0)
        inverse = unit_lower_inverse(s_kk, row, LEVELS, SOLVER)
        tl.store(a + at, inverse.to(a.dtype.element_ty), mask=row[:, None] < rows)


def scores(
    q: torch.Tensor,
    k: torch.Tensor,
    g: torch.Tensor | None,
    b: torch.Tensor | None,
    *,
    scale: float,
    shapes: Shapes,
    layout: Layout,
    config: LaunchConfig,
) -> tuple[torch.Tensor, torch.Tensor]:
    """(Aqk, A), each [tokens, HV, C] in q's dtype; A is empty for a rule that erases nothing."""
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
        SOLVER=config.solver,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "DECAY", "ERASE"),
    )
    return aqk, a
