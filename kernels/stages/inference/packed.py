"""The forward pass in two kernels that pass one C x C matrix per chunk: all chunks at once, then a walk along each sequence.

Aqk is lower triangular and A is unit lower triangular, so that both fit into one matrix: Aqk on and below its diagonal,
the transpose of A above it.
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call as InferenceCall
from ...arguments.layout import make_layout
from ...arguments.ties import NONE
from ...configs.launch_options import launch_options
from ..chunkwise.scores import unit_lower_inverse
from ..device.chunk import STATE_ROWS, advance, chunk_scores, load_state, sequence, store_state
from ..prologue.normalise import EPS


@triton.jit
def packed_scores_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    A_log,  # [G], where g is raw
    dt_bias,  # [G] or [G * K], where g is raw
    pack,  # [tokens, HV, C]
    chunks,  # [M, 2], where sequences are packed
    length,
    scale,
    eps,
    H: tl.constexpr,
    HV: tl.constexpr,
    G: tl.constexpr,
    B: tl.constexpr,
    K: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    LEVELS: tl.constexpr,
    PACKED: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    NORMALISE: tl.constexpr,
    RAW: tl.constexpr,
    SOLVER: tl.constexpr,
):
    # One program: one (chunk, value head), all of K.
    i_c = tl.program_id(0)
    i_hv = tl.program_id(1)
    if PACKED:
        start = tl.load(chunks + 2 * i_c)
        rows = tl.load(chunks + 2 * i_c + 1)
        if rows == 0:
            return
    else:
        per_sequence = tl.cdiv(length, C)
        i_n = i_c // per_sequence
        inner = i_c % per_sequence * C
        start = i_n.to(tl.int64) * length + inner
        rows = tl.minimum(length - inner, C)
    row = tl.arange(0, C)
    s_qk, t = chunk_scores(
        q, k, g, b, A_log, dt_bias, start, rows, row, i_hv, scale, eps,
        H, HV, G, B, K, BK, LEVELS, DECAY, ERASE, NORMALISE, RAW,
    )  # fmt: skip
    at = (start * HV + i_hv) * C + (row[:, None] * (HV * C) + row[None, :])
    inside = row[:, None] < rows
    upper = row[:, None] < row[None, :]
    if ERASE != NONE:
        # Stored at once, so that it holds no registers while T is inverted.
        tl.store(pack + at, s_qk.to(pack.dtype.element_ty), mask=inside & ~upper)
        inverse = unit_lower_inverse(t, row, LEVELS, SOLVER).to(pack.dtype.element_ty)
        tl.store(pack + at, tl.trans(inverse), mask=inside & upper)
    else:
        tl.store(pack + at, s_qk.to(pack.dtype.element_ty), mask=inside)


@triton.jit
def packed_walk_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    v,  # [tokens, HV, V]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    w,  # [tokens, HV] or [tokens, HV, V]
    A_log,  # [G], where g is raw
    dt_bias,  # [G] or [G * K], where g is raw
    pack,  # [tokens, HV, C]
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
    BV: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
    NORMALISE: tl.constexpr,
    RAW: tl.constexpr,
    PACKED: tl.constexpr,
    INITIAL: tl.constexpr,
    FINAL: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all chunks in turn.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    row = tl.arange(0, C)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    state = load_state(h0, i_nh * K * V, column, K, V, KP, KB, BV, INITIAL)
    first, end = sequence(cu_seqlens, i_n, length, PACKED)
    # Without hoisting: what is the same in every chunk is cheaper computed again than kept in registers.
    for start in tl.range(first, end, C, disable_licm=True):
        rows = tl.minimum(end - start, C)
        at = (start * HV + i_hv) * C + (row[:, None] * (HV * C) + row[None, :])
        both = tl.load(pack + at, mask=row[:, None] < rows, other=0.0)
        score = tl.where(row[:, None] >= row[None, :], both, 0.0)
        inverse = tl.where(row[:, None] > row[None, :], tl.trans(both), 0.0)
        inverse = tl.where(row[:, None] == row[None, :], 1.0, inverse).to(both.dtype)
        out, state = advance(
            state, score, inverse, q, k, v, g, b, w, A_log, dt_bias, start, rows, row, column, i_hv, scale, eps,
            H, HV, G, B, K, V, KP, KB, BV, DECAY, ERASE, WRITE, NORMALISE, RAW,
        )  # fmt: skip
        at = (start * HV + i_hv) * V + (row[:, None] * (HV * V) + column[None, :])
        tl.store(o + at, out.to(o.dtype.element_ty), mask=(row[:, None] < rows) & (column[None, :] < V))
    if FINAL:
        store_state(state, ht, i_nh * K * V, column, K, V, KP, KB)


def infer_packed(call: InferenceCall, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht): outputs [tokens, HV, V] in v's dtype and final states [N, HV, K, V] fp32, empty unless `final`."""
    shapes, config = call.shapes, call.config
    packed = call.cu_seqlens is not None
    if call.cu_seqlens is None:
        chunks = None
        programs = call.sequences * triton.cdiv(call.length, config.chunk_size)
    else:
        chunks = call.chunks
        if chunks is None:
            chunks = make_layout(call.cu_seqlens, shapes.tokens, config.chunk_size).chunks
        programs = chunks.shape[0]
    tensors = call.tensors
    common = {
        "length": call.length,
        "scale": call.scale,
        "eps": EPS,
        "C": config.chunk_size,
        "PACKED": packed,
        "NORMALISE": call.normalise,
        "RAW": call.A_log is not None,
    }
    pack = call.q.new_empty(shapes.tokens, shapes.HV, config.chunk_size)
    packed_scores_kernel[(programs, shapes.HV)](
        **{name: x for name, x in tensors.items() if name not in ("v", "w")},
        pack=pack,
        chunks=chunks,
        BK=min(config.scores.block, shapes.K_block),
        LEVELS=config.chunk_size.bit_length() - 1,
        SOLVER=call.solver,
        **launch_options(config.scores.num_warps, config.scores.num_stages),
        **common,
        **shapes.constants("H", "HV", "G", "B", "K", "DECAY", "ERASE"),
    )
    o = torch.empty_like(call.v)
    ht = call.v.new_empty(call.sequences if final else 0, shapes.HV, shapes.K, shapes.V, dtype=torch.float32)
    block = min(config.states.block, shapes.V_block)
    packed_walk_kernel[(call.sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        **tensors,
        pack=pack,
        h0=call.h0,
        o=o,
        ht=ht,
        cu_seqlens=call.cu_seqlens,
        KP=shapes.K_block,
        KB=min(STATE_ROWS, shapes.K_block),
        BV=block,
        INITIAL=call.h0 is not None,
        FINAL=final,
        **launch_options(config.states.num_warps, config.states.num_stages),
        **common,
        **shapes.constants("H", "HV", "G", "B", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return o, ht
