"""The whole forward pass in one kernel: scores, inverse and state of a chunk never leave the program that made them.

Every input is read once and every output written once, which is all that must move; the price is that the chunks of a
sequence follow one another, so that there are only as many programs as sequences, value heads and V tiles.
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.ties import NONE
from ...configs.launch_options import launch_options
from ..device.chunk import STATE_ROWS, advance, chunk_scores, load_state, sequence, store_state
from ..device.inverse import blockwise_inverse
from ..prologue.normalise import EPS


@triton.jit
def fused_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    v,  # [tokens, HV, V]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    w,  # [tokens, HV] or [tokens, HV, V]
    A_log,  # [G], where g is raw
    dt_bias,  # [G] or [G * K], where g is raw
    h0,  # [N, HV, K, V]
    o,  # [tokens, HV, V]
    ht,  # [N, HV, K, V]
    cu_seqlens,  # [N + 1], where sequences are packed
    length,
    scale,
    eps,
    H: tl.constexpr,
    HV: tl.constexpr,
    G: tl.constexpr,
    B: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    KP: tl.constexpr,
    KB: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    LEVELS: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
    NORMALISE: tl.constexpr,
    RAW: tl.constexpr,
    PACKED: tl.constexpr,
    INITIAL: tl.constexpr,
    FINAL: tl.constexpr,
    SOLVER: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all chunks in turn.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    row = tl.arange(0, C)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    state = load_state(h0, i_nh * K * V, column, K, V, KP, KB, BV, INITIAL)
    first, end = sequence(cu_seqlens, i_n, length, PACKED)
    # Without hoisting: values that are the same in every chunk are cheaper computed again than kept in registers.
    for start in tl.range(first, end, C, disable_licm=True):
        rows = tl.minimum(end - start, C)
        aqk, near, far = chunk_scores(
            q, k, g, b, A_log, dt_bias, start, rows, row, i_hv, scale, eps,
            H, HV, G, B, K, BK, LEVELS, DECAY, ERASE, NORMALISE, RAW,
        )  # fmt: skip
        score = aqk.to(k.dtype.element_ty)
        if ERASE != NONE:
            inverse = blockwise_inverse(near, far, row, LEVELS, SOLVER).to(k.dtype.element_ty)
        else:
            inverse = score
        out, state = advance(
            state, score, inverse, q, k, v, g, b, w, A_log, dt_bias, start, rows, row, column, i_hv, scale, eps,
            H, HV, G, B, K, V, KP, KB, BV, DECAY, ERASE, WRITE, NORMALISE, RAW,
        )  # fmt: skip
        at = (start * HV + i_hv) * V + (row[:, None] * (HV * V) + column[None, :])
        tl.store(o + at, out.to(o.dtype.element_ty), mask=(row[:, None] < rows) & (column[None, :] < V))
    if FINAL:
        store_state(state, ht, i_nh * K * V, column, K, V, KP, KB)


def infer_fused(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht): outputs [tokens, HV, V] in v's dtype and final states [N, HV, K, V] fp32, empty unless `final`.

    Of the configuration, `states` gives the V tile, warps and pipeline depth, and `scores` the K tile of the scores.
    """
    shapes, config, tile = call.shapes, call.config, call.config.states
    o = torch.empty_like(call.v)
    ht = call.v.new_empty(call.sequences if final else 0, shapes.HV, shapes.K, shapes.V, dtype=torch.float32)
    block = min(tile.block, shapes.V_block)
    fused_kernel[(call.sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        **call.tensors,
        h0=call.h0,
        o=o,
        ht=ht,
        cu_seqlens=call.cu_seqlens,
        length=call.length,
        scale=call.scale,
        eps=EPS,
        C=config.chunk_size,
        KP=shapes.K_block,
        KB=min(STATE_ROWS, shapes.K_block),
        BK=min(config.scores.block, shapes.K_block),
        BV=block,
        LEVELS=config.chunk_size.bit_length() - 1,
        NORMALISE=call.normalise,
        RAW=call.A_log is not None,
        PACKED=call.cu_seqlens is not None,
        INITIAL=call.h0 is not None,
        FINAL=final,
        SOLVER=call.solver,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return o, ht
