"""The forward pass in two kernels: all chunks at once make the operands of the walk, then the walk is products and nothing else.

With X = z - Ebar S0 and the inverse A of I + T, a chunk's outputs and its state are (GDN-2 Eq. 41-44)

    o = scale Qbar S0 + (Aqk A) X        SC = gamma_C S0 + (A^T Kt)^T X

so that A need not reach the walk: the chunk-parallel kernel leaves Qbar, Ebar, Aqk A, A^T Kt and gamma_C, and a step of the
walk is four products, of which two wait for the other two. Every factor is at most 1: no decay overflows, -inf included.

A scalar erase gate that is the write gate as well, X = b (v - Kbar S0), goes to the columns of A: Ebar is Kbar, and z is v.

The tensors that pass between the kernels lie chunk by chunk, each in a slot of C rows, zeros behind its last token: the walk
finds its slots by arithmetic and reads them whole. Chunk i of sequence n has slot cu_seqlens[n] // C + n + i, which no other has.
"""

from dataclasses import dataclass

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.shapes import SCALAR as SCALAR_TIE
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_options import launch_options
from ..device.chunk import load_state, sequence, store_state
from ..device.decay import pair_decay
from ..device.dyadic import dyadic_scores, near_scores
from ..device.inverse import blocks_to_tile, blockwise_inverse, tile_to_blocks
from ..device.rows import load_decay, load_rows, load_scalars, reciprocal_norms
from ..device.sixteen import activated, exponentials, load_sixteen, negated, norms_of_rows, scaled, stack
from ..prologue.normalise import EPS


@triton.jit
def chunk_of_slot(cu_seqlens, slot, sequences, length, C: tl.constexpr, PACKED: tl.constexpr):
    """(first token, number of tokens) of the chunk in a slot; none, or fewer, where the slot is empty."""
    if PACKED:
        low = tl.zeros_like(sequences)
        high = sequences
        while high - low > 1:
            middle = (low + high) // 2
            below = tl.load(cu_seqlens + middle).to(tl.int64) // C + middle <= slot
            low = tl.where(below, middle, low)
            high = tl.where(below, high, middle)
        first = tl.load(cu_seqlens + low).to(tl.int64)
        inner = (slot - first // C - low) * C
        end = tl.load(cu_seqlens + low + 1).to(tl.int64)
    else:
        per_sequence = tl.cdiv(length, C)
        inner = slot % per_sequence * C
        first = (slot // per_sequence).to(tl.int64) * length
        end = first + length
    return first + inner, tl.minimum(end - first - inner, C).to(tl.int32)


@triton.jit(do_not_specialize=["sequences"])
def packed_scores_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    A_log,  # [G], where g is raw
    dt_bias,  # [G] or [G * K], where g is raw
    queries,  # [slots, HV, C, K]: Qbar
    erasers,  # [slots, HV, C, K]: -Ebar
    writers,  # [slots, HV, C, K]: A^T Kt
    pairs,  # [slots, HV, C, C]: Aqk A
    total,  # [slots, HV] or [slots, HV, K]: decay of the whole chunk
    cu_seqlens,  # [N + 1], where sequences are packed
    sequences,
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
    TIED: tl.constexpr,
    NORMALISE: tl.constexpr,
    RAW: tl.constexpr,
    SOLVER: tl.constexpr,
):
    # One program: one (chunk, value head), all of K.
    slot = tl.program_id(0)
    i_hv = tl.program_id(1)
    start, rows = chunk_of_slot(cu_seqlens, slot, sequences, length, C, PACKED)
    if rows <= 0:
        return
    i_h = i_hv // (HV // H)
    i_g = i_hv // (HV // G)
    i_b = i_hv // (HV // B)
    row = tl.arange(0, C)
    cell = slot.to(tl.int64) * HV + i_hv
    s_qk = tl.zeros([C, C], tl.float32)
    s_kk = tl.zeros([C, C], tl.float32)
    if DECAY == SCALAR:
        here = load_decay(g, A_log, dt_bias, start, rows, i_g, row, row, 0, G, K, DECAY, RAW)
        # Sums over the columns of a tile: Triton 3.6 refuses a scan over one column.
        until = row[None, :] <= row[:, None]
        up = tl.exp(tl.sum(tl.where(until, tl.trans(here), 0.0), 1))[:, None]
        down = tl.exp(tl.sum(tl.where(until, 0.0, tl.trans(here)), 1))[:, None]
        tl.store(total + cell, tl.exp(tl.sum(here)))
    if ERASE == SCALAR:
        gate = load_scalars(b, start, rows, i_b, row, B)
    if NORMALISE and DECAY == CHANNEL:
        q_norms = norms_of_rows(q, start, rows, i_h, eps, H, K, C, BK)
        k_norms = norms_of_rows(k, start, rows, i_h, eps, H, K, C, BK)
    near_kk = tl.zeros([C // 16, 16, 16], tl.float32)
    if DECAY == CHANNEL:
        diagonal = tl.zeros([C // 16, 16, 16], tl.float32)
        level = tl.zeros([C // 16, 16, 8], tl.float32)
        near = (level, level, level, level)
    for start_k in range(0, K, BK):
        channel = start_k + tl.arange(0, BK)
        if DECAY == CHANNEL:
            q_rows = load_sixteen(q, start, rows, i_h, channel, C, H, K, CHANNEL)
            k_rows = load_sixteen(k, start, rows, i_h, channel, C, H, K, CHANNEL)
            decay = load_sixteen(g, start, rows, i_g, channel, C, G, K, CHANNEL)
            if NORMALISE:
                q_rows = scaled(q_rows, q_norms)
                k_rows = scaled(k_rows, k_norms)
            if RAW:
                decay = activated(decay, A_log, dt_bias, rows, i_g, channel, C, K)
            decay = exponentials(decay)
            e_rows = ()
            if ERASE == CHANNEL:
                gates = load_sixteen(b, start, rows, i_b, channel, C, B, K, CHANNEL)
                e_rows = negated(scaled(gates, k_rows))
            elif ERASE == SCALAR:
                e_rows = negated(k_rows)
            diagonal, near, s_qk, s_kk, q_rows, e_rows, k_rows, whole = dyadic_scores(
                diagonal, near, s_qk, s_kk, q_rows, e_rows, k_rows, decay, row, LEVELS, ERASE, k.dtype.element_ty
            )
            part = tl.arange(0, C // 16)
            at = total + cell * K + tl.broadcast_to(channel[None, :], whole.shape)
            tl.store(at, whole, mask=(part[:, None] == 0) & (channel[None, :] < K))
            query = stack(q_rows).to(queries.dtype.element_ty)
            key = stack(k_rows).to(queries.dtype.element_ty)
            if ERASE == SCALAR and not TIED:
                erase = (gate * stack(e_rows)).to(queries.dtype.element_ty)
            elif ERASE != NONE:
                erase = stack(e_rows).to(queries.dtype.element_ty)
        else:
            q_tile = load_rows(q, start, rows, i_h, row, channel, H, K)
            k_tile = load_rows(k, start, rows, i_h, row, channel, H, K)
            if NORMALISE:
                q_tile *= reciprocal_norms(q, start, rows, i_h, row, eps, H, K, K, BK)[:, None]
                k_tile *= reciprocal_norms(k, start, rows, i_h, row, eps, H, K, K, BK)[:, None]
            key = tl.trans(k_tile.to(k.dtype.element_ty))
            s_qk += tl.dot(q_tile.to(k.dtype.element_ty), key, input_precision="ieee")
            if ERASE != NONE:
                e_tile = -k_tile
                if ERASE == CHANNEL:
                    e_tile *= load_rows(b, start, rows, i_b, row, channel, B, K)
                s_kk += tl.dot(e_tile.to(k.dtype.element_ty), key, input_precision="ieee")
                if ERASE == SCALAR and not TIED:
                    e_tile *= gate
                erase = ((e_tile * up) if DECAY != NONE else e_tile).to(queries.dtype.element_ty)
            query = ((q_tile * up) if DECAY != NONE else q_tile).to(queries.dtype.element_ty)
            key = ((k_tile * down) if DECAY != NONE else k_tile).to(queries.dtype.element_ty)
        at = cell * C * K + (row[:, None] * K + channel[None, :])
        inside = tl.broadcast_to(channel[None, :] < K, [C, BK])
        tl.store(queries + at, query, mask=inside)
        if ERASE != NONE:
            tl.store(erasers + at, erase, mask=inside)
        # Kt, to be multiplied by the inverse when that is known.
        tl.store(writers + at, key, mask=inside)
    if DECAY == SCALAR:
        factor = pair_decay(here, row)
        s_qk *= factor
        s_kk *= factor
    elif DECAY == CHANNEL:
        near_qk, near_kk = near_scores(diagonal, near)
        s_qk += blocks_to_tile(near_qk)
    lower = row[:, None] >= row[None, :]
    score = tl.where(lower, s_qk * scale, 0.0).to(pairs.dtype.element_ty)
    if ERASE != NONE:
        if ERASE == SCALAR:
            s_kk *= gate
            near_kk *= tl.reshape(gate, (C // 16, 16, 1))
        if DECAY != CHANNEL:
            near_kk = tile_to_blocks(s_kk)
        inverse = blockwise_inverse(near_kk, s_kk, row, LEVELS, SOLVER)
        if TIED:
            inverse *= tl.trans(gate)
        inverse = inverse.to(pairs.dtype.element_ty)
        tl.debug_barrier()
        for start_k in range(0, K, BK):
            channel = start_k + tl.arange(0, BK)
            at = writers + cell * C * K + (row[:, None] * K + channel[None, :])
            inside = tl.broadcast_to(channel[None, :] < K, [C, BK])
            key = tl.load(at, mask=inside, other=0.0)
            writer = tl.dot(tl.trans(inverse), key, input_precision="ieee")
            tl.store(at, writer.to(writers.dtype.element_ty), mask=inside)
        score = tl.dot(score, inverse, input_precision="ieee").to(pairs.dtype.element_ty)
    tl.store(pairs + cell * C * C + (row[:, None] * C + row[None, :]), score)


@triton.jit
def packed_walk_kernel(
    queries,  # [slots, HV, C, K]: Qbar
    erasers,  # [slots, HV, C, K]: -Ebar
    writers,  # [slots, HV, C, K]: A^T Kt
    pairs,  # [slots, HV, C, C]: Aqk A
    total,  # [slots, HV] or [slots, HV, K]: decay of the whole chunk
    v,  # [tokens, HV, V]
    w,  # [tokens, HV] or [tokens, HV, V]
    h0,  # [N, HV, K, V]
    o,  # [tokens, HV, V]
    ht,  # [N, HV, K, V]
    cu_seqlens,  # [N + 1], where sequences are packed
    length,
    scale,
    HV: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    KP: tl.constexpr,
    BV: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
    PACKED: tl.constexpr,
    INITIAL: tl.constexpr,
    FINAL: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all chunks in turn.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    row = tl.arange(0, C)
    channel = tl.arange(0, KP)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    (state,) = load_state(h0, i_nh * K * V, column, K, V, KP, KP, BV, INITIAL)
    first, end = sequence(cu_seqlens, i_n, length, PACKED)
    slot = first // C + i_n if PACKED else i_n * tl.cdiv(length, C)
    chunks = tl.cdiv(end - first, C).to(tl.int32)
    cell = slot * HV + i_hv
    # Triton prefetches the operands of products. The rest is loaded a chunk ahead here, or every step would wait for memory.
    value, gate, kept = load_ahead(v, w, total, first, end, cell, i_hv, row, column, channel, HV, K, V, DECAY, WRITE)
    for i in tl.range(0, chunks):
        start = first + i * C
        rows = tl.minimum(end - start, C).to(tl.int32)
        cell = (slot + i) * HV + i_hv
        value_now, gate_now, kept_now = value, gate, kept
        value, gate, kept = load_ahead(
            v, w, total, start + C, end, cell + HV, i_hv, row, column, channel, HV, K, V, DECAY, WRITE
        )
        operand = state.to(v.dtype.element_ty)
        if ERASE != NONE:
            # A fused multiply-add, since the compiler would start the product from a plain sum's other summand.
            x = tl.dot(load_operand(erasers, cell, row, channel, K), operand, input_precision="ieee")
            gate_now = tl.broadcast_to(gate_now.to(tl.float32), value_now.shape)
            x = tl.fma(value_now.to(tl.float32), gate_now, x).to(v.dtype.element_ty)
        else:
            x = (gate_now.to(tl.float32) * value_now.to(tl.float32)).to(v.dtype.element_ty)
        out = scale * tl.dot(load_operand(queries, cell, row, channel, K), operand, input_precision="ieee")
        out = tl.dot(load_operand(pairs, cell, row, row, C), x, out, input_precision="ieee")
        at = (start * HV + i_hv) * V + (row[:, None] * (HV * V) + column[None, :])
        tl.store(o + at, out.to(o.dtype.element_ty), mask=(row[:, None] < rows) & (column[None, :] < V))
        if DECAY == CHANNEL:
            state *= kept_now[:, None]
        elif DECAY == SCALAR:
            state *= kept_now
        key = tl.trans(load_operand(writers, cell, row, channel, K))
        state = tl.dot(key, x, state, input_precision="ieee")
    if FINAL:
        store_state((state,), ht, i_nh * K * V, column, K, V, KP, KP)


@triton.jit
def load_ahead(v, w, total, start, end, cell, head, row, column, channel, HV: tl.constexpr, K: tl.constexpr,
               V: tl.constexpr, DECAY: tl.constexpr, WRITE: tl.constexpr):  # fmt: skip
    """Of the chunk of a cell: v [C, BV], its gate [C, BV] or [C, 1], and the decay [KP] or a number. Zeros behind the end."""
    rows = tl.minimum(end - start, row.shape[0]).to(tl.int32)
    inside = (row[:, None] < rows) & (column[None, :] < V)
    at = (start * HV + head) * V + (row[:, None] * (HV * V) + column[None, :])
    value = tl.load(v + at, mask=inside, other=0.0)
    if WRITE == CHANNEL:
        gate = tl.load(w + at, mask=inside, other=0.0)
    elif WRITE == SCALAR:
        gate = tl.load(w + (start * HV + head) + row[:, None] * HV, mask=row[:, None] < rows, other=0.0)
    else:
        gate = tl.full([row.shape[0], 1], 1.0, tl.float32)
    if DECAY == CHANNEL:
        kept = tl.load(total + cell * K + channel, mask=(channel < K) & (rows > 0), other=1.0)
    elif DECAY == SCALAR:
        kept = tl.load(total + cell, mask=rows > 0, other=1.0)
    else:
        kept = 1.0
    return value, gate, kept


@triton.jit
def load_operand(x, cell, row, column, WIDTH: tl.constexpr):
    """The rows of a cell of x [cells, C, WIDTH]; 0 beyond WIDTH, and no mask where there is nothing beyond."""
    C: tl.constexpr = row.shape[0]
    at = x + cell * C * WIDTH + (row[:, None] * WIDTH + column[None, :])
    if column.shape[0] == WIDTH:
        return tl.load(at)
    else:
        return tl.load(at, mask=tl.broadcast_to(column[None, :] < WIDTH, [C, column.shape[0]]), other=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Walked:
    """The operands of the walk, by their names in the kernels. erasers, total: None for a rule without."""

    queries: torch.Tensor
    erasers: torch.Tensor | None
    writers: torch.Tensor
    pairs: torch.Tensor
    total: torch.Tensor | None

    @property
    def tensors(self) -> dict[str, torch.Tensor | None]:
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


def infer_packed(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht): outputs [tokens, HV, V] in v's dtype and final states [N, HV, K, V] fp32, empty unless `final`."""
    return packed_walk(call, packed_scores(call), final=final)


def packed_scores(call: Call) -> Walked:
    """The operands of the walk over the chunks of a call."""
    shapes, config = call.shapes, call.config
    packed = call.cu_seqlens is not None
    C = config.chunk_size
    # Every sequence can begin a chunk more than its tokens fill.
    slots = shapes.tokens // C + call.sequences if packed else call.sequences * triton.cdiv(call.length, C)
    gated = (slots, shapes.HV, C, shapes.K)
    channels = () if shapes.DECAY == SCALAR_TIE else (shapes.K,)
    walked = Walked(
        queries=call.q.new_empty(gated),
        erasers=call.q.new_empty(gated) if call.b is not None else None,
        writers=call.q.new_empty(gated),
        pairs=call.q.new_empty(slots, shapes.HV, C, C),
        total=None if call.g is None else call.q.new_empty(slots, shapes.HV, *channels, dtype=torch.float32),
    )
    packed_scores_kernel[(slots, shapes.HV)](
        **{name: x for name, x in call.tensors.items() if name not in ("v", "w")},
        **walked.tensors,
        cu_seqlens=call.cu_seqlens,
        sequences=call.sequences,
        length=call.length,
        scale=call.scale,
        eps=EPS,
        C=C,
        BK=min(config.scores.block, shapes.K_block),
        LEVELS=C.bit_length() - 1,
        PACKED=packed,
        # One gate per head for both: X = b (v - Kbar S0), and b goes to the columns of A.
        TIED=shapes.ERASE == SCALAR_TIE and call.w is None,
        NORMALISE=call.normalise,
        RAW=call.A_log is not None,
        SOLVER=call.solver,
        **launch_options(config.scores.num_warps, config.scores.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "DECAY", "ERASE"),
    )
    return walked


def packed_walk(call: Call, walked: Walked, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht), as `infer_packed`."""
    shapes, config = call.shapes, call.config
    o = torch.empty_like(call.v)
    ht = call.v.new_empty(call.sequences if final else 0, shapes.HV, shapes.K, shapes.V, dtype=torch.float32)
    block = min(config.states.block, shapes.V_block)
    packed_walk_kernel[(call.sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        **walked.tensors,
        v=call.v,
        w=call.w,
        h0=call.h0,
        o=o,
        ht=ht,
        cu_seqlens=call.cu_seqlens,
        length=call.length,
        scale=call.scale,
        C=config.chunk_size,
        KP=shapes.K_block,
        BV=block,
        PACKED=call.cu_seqlens is not None,
        INITIAL=call.h0 is not None,
        FINAL=final,
        **launch_options(config.states.num_warps, config.states.num_stages),
        **shapes.constants("HV", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return o, ht
