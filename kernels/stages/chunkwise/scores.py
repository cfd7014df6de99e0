"""Stage 1: the scores of a chunk and the inverse that orders its writes.

    Aqk = scale * tril(q_i . k_j exp(G_i - G_j))        T = stril(e_i . k_j exp(G_i - G_j))        A = (I + T)^-1

(GDN-2 Eq. 36-40). The inverse doubles its blocks: with A the inverse of the diagonal blocks of h rows, and T_h the part of T that
joins two neighbours, A - A T_h A is the inverse of the blocks of 2h rows. Erase keys are negated here, so that the sum is -T.
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.layout import Layout
from ...arguments.ties import NONE
from ...configs.launch_options import launch_options
from ..device.chunk import chunk_scores
from ..device.inverse import blockwise_inverse


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
    row = tl.arange(0, C)
    score, near, far = chunk_scores(
        q, k, g, b, None, None, start, rows, row, i_hv, scale, 0.0,
        H, HV, G, B, K, BK, LEVELS, DECAY, ERASE, False, False,
    )  # fmt: skip
    at = ((start + row[:, None]) * HV + i_hv) * C + row[None, :]
    tl.store(aqk + at, score.to(aqk.dtype.element_ty), mask=row[:, None] < rows)
    if ERASE != NONE:
        inverse = blockwise_inverse(near, far, row, LEVELS, SOLVER)
        tl.store(a + at, inverse.to(a.dtype.element_ty), mask=row[:, None] < rows)


def scores(call: Call, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """(Aqk, A), each [tokens, HV, C] in q's dtype; A is empty for a rule that erases nothing."""
    shapes, tile, C = call.shapes, call.config.scores, call.config.chunk_size
    aqk = call.q.new_empty(shapes.tokens, shapes.HV, C)
    a = torch.empty_like(aqk) if call.b is not None else call.q.new_empty(0)
    scores_kernel[(layout.chunks.shape[0], shapes.HV)](
        q=call.q,
        k=call.k,
        g=call.g,
        b=call.b,
        aqk=aqk,
        a=a,
        chunks=layout.chunks,
        scale=call.scale,
        C=C,
        BK=min(tile.block, shapes.K_block),
        LEVELS=C.bit_length() - 1,
        SOLVER=call.solver,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "DECAY", "ERASE"),
    )
    return aqk, a
