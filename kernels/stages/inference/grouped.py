"""Sequences split into groups of chunks that are walked at once, where heads are too few to fill a GPU.

The effect of a run of chunks on a state is affine, in each column of it: S' = M S + B. So the groups of a sequence need not wait
for each other: B is the result of a walk from no state, M its result from the identity where there is nothing to write. Both are
one walk, over [B | M] with V + K columns; a short serial launch takes S from group to group; then every group is walked from its
own state by the kernels of `packed`, as if it were a sequence. Nothing is left out, however little a group keeps.

Where nothing is erased, M is diagonal: one column that starts with ones has its diagonal.

Group i of sequence n has number cu_seqlens[n] // L + n + i, of L tokens each, but the last; some numbers have no tokens. Where a
sequence is cut depends on its own length alone.
"""

from dataclasses import replace

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_options import launch_options
from ...configs.space import JOINED_COLUMNS, JOINED_ELEMENTS, SPACES
from ..device.chunk import load_state, sequence, store_state
from .packed import Walked, infer_packed, load_ahead, load_operand, packed_scores, packed_walk

SEQUENCES_AT_ONCE = GROUPS_AT_ONCE = 16
"""Of one program of the first launch, and of one step of it."""


@triton.jit(do_not_specialize=["sequences"])
def group_bounds_kernel(
    bounds,  # [groups + 1]
    cu_seqlens,  # [N + 1], where sequences are packed
    sequences,
    length,
    L: tl.constexpr,
    BN: tl.constexpr,
    BG: tl.constexpr,
    PACKED: tl.constexpr,
):
    # One program: the groups of BN sequences, BG of each at a time; each stores where it ends.
    i_n = tl.program_id(0).to(tl.int64) * BN + tl.arange(0, BN)
    there = i_n < sequences
    if PACKED:
        first = tl.load(cu_seqlens + i_n, mask=there, other=0).to(tl.int64)
        end = tl.load(cu_seqlens + i_n + 1, mask=there, other=0).to(tl.int64)
        # A number more than there may be groups: it ends where the sequence does.
        groups = end // L - first // L + 1
        before = first // L + i_n
    else:
        first = i_n * length
        end = first + length
        groups = tl.zeros_like(i_n) + tl.cdiv(length, L)
        before = i_n * groups
    tl.store(bounds + i_n, first, mask=i_n == 0)
    groups = tl.where(there, groups, 0).to(tl.int32)
    for done in tl.range(0, tl.max(groups), BG):
        i = done + tl.arange(0, BG)[None, :]
        ends = tl.minimum(first[:, None] + (i + 1).to(tl.int64) * L, end[:, None])
        tl.store(bounds + before[:, None] + i + 1, ends, mask=i < groups[:, None])


@triton.jit(do_not_specialize=["skipped"])
def group_maps_kernel(
    erasers,  # [slots, HV, C, K]: -Ebar
    writers,  # [slots, HV, C, K]: A^T Kt
    total,  # [slots, HV] or [slots, HV, K]: decay of the whole chunk
    v,  # [tokens, HV, V]
    w,  # [tokens, HV] or [tokens, HV, V]
    maps,  # [groups, HV, K, W]: B, then M or its diagonal
    cu_seqlens,  # [groups + 1]
    skipped,
    HV: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    W: tl.constexpr,
    C: tl.constexpr,
    KP: tl.constexpr,
    BV: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
):
    # One program: one (group, value head), BV columns of [B | M], all chunks in turn; nothing for groups of up to `skipped`
    # tokens.
    i_gh = tl.program_id(0).to(tl.int64)
    i_g = i_gh // HV
    i_hv = i_gh % HV
    first, end = sequence(cu_seqlens, i_g, 0, True)
    if end - first <= skipped:
        return
    row = tl.arange(0, C)
    channel = tl.arange(0, KP)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    if ERASE == NONE:
        own = (channel[:, None] >= 0) & (column[None, :] == V)
    else:
        own = channel[:, None] + V == column[None, :]
    state = tl.where(own, 1.0, 0.0)
    slot = first // C + i_g
    cell = slot * HV + i_hv
    value, gate, kept = load_ahead(v, w, total, first, end, cell, i_hv, row, column, channel, HV, K, V, DECAY, WRITE)
    for i in tl.range(0, tl.cdiv(end - first, C).to(tl.int32)):
        start = first + i * C
        cell = (slot + i) * HV + i_hv
        value_now, gate_now, kept_now = value, gate, kept
        value, gate, kept = load_ahead(
            v, w, total, start + C, end, cell + HV, i_hv, row, column, channel, HV, K, V, DECAY, WRITE
        )
        # The state may be as large as M is small: in fp16, that has few exponents, M must not lose the elements that meet a large
        # state.
        scaled: tl.constexpr = ERASE != NONE and v.dtype.element_ty == tl.float16
        if scaled:
            power = tl.where(column < V, 1.0, towards_one(tl.max(tl.abs(state), 0)))[None, :]
            state *= power
        if ERASE != NONE:
            operand = state.to(v.dtype.element_ty)
            x = tl.dot(load_operand(erasers, cell, row, channel, K), operand, input_precision="ieee")
            gate_now = tl.broadcast_to(gate_now.to(tl.float32), value_now.shape)
            x = tl.fma(value_now.to(tl.float32), gate_now, x).to(v.dtype.element_ty)
        else:
            x = (gate_now.to(tl.float32) * value_now.to(tl.float32)).to(v.dtype.element_ty)
        if DECAY == CHANNEL:
            state *= kept_now[:, None]
        elif DECAY == SCALAR:
            state *= kept_now
        key = tl.trans(load_operand(writers, cell, row, channel, K))
        state = tl.dot(key, x, state, input_precision="ieee")
        if scaled:
            state *= 1.0 / power
    store_state((state,), maps, i_gh * K * W, column, K, W, KP, KP)


@triton.jit
def towards_one(x):
    """The powers of two that take numbers from 0 up to between 1 and 2, as far as they and their reciprocals are normal."""
    exponent = tl.minimum(tl.maximum(x.to(tl.int32, bitcast=True) >> 23, 1), 253)
    return ((254 - exponent) << 23).to(tl.float32, bitcast=True)


@triton.jit
def group_starts_kernel(
    maps,  # [groups, HV, K, W]: B, then M or its diagonal
    h0,  # [N, HV, K, V]
    starts,  # [groups, HV, K, V]: state before each group
    ht,  # [N, HV, K, V]
    cu_seqlens,  # [N + 1], where sequences are packed
    length,
    L,
    HV: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    W: tl.constexpr,
    KP: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    ERASE: tl.constexpr,
    PACKED: tl.constexpr,
    INITIAL: tl.constexpr,
    FINAL: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all groups in turn.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    channel = tl.arange(0, KP)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    (state,) = load_state(h0, i_nh * K * V, column, K, V, KP, KP, BV, INITIAL)
    first, end = sequence(cu_seqlens, i_n, length, PACKED)
    groups = tl.cdiv(end - first, L).to(tl.int32)
    group = first // L + i_n if PACKED else i_n * groups
    numbers = (end // L + i_n + 1 - group).to(tl.int32) if PACKED else groups
    inside = (channel[:, None] < K) & (column[None, :] < V)
    # The state after the last group is needed only as the final state.
    steps = groups if FINAL else tl.maximum(groups - 1, 0)
    for i in tl.range(0, steps):
        cell = (group + i) * HV + i_hv
        store_state((state,), starts, cell * K * V, column, K, V, KP, KP)
        written = maps + cell * K * W
        after = tl.load(written + channel[:, None] * W + column[None, :], mask=inside, other=0.0)
        if ERASE == NONE:
            kept = tl.load(written + channel * W + V, mask=channel < K, other=0.0)
            state = tl.fma(tl.broadcast_to(kept[:, None], after.shape), state, after)
        else:
            tl.debug_barrier()
            for first_part in range(0, KP, BK):
                part = first_part + tl.arange(0, BK)
                through = (channel[:, None] < K) & (part[None, :] < K)
                moved = tl.load(written + V + channel[:, None] * W + part[None, :], mask=through, other=0.0)
                known = (part[:, None] < K) & (column[None, :] < V)
                before = starts + cell * K * V + part[:, None] * V + column[None, :]
                after = tl.dot(moved, tl.load(before, mask=known, other=0.0), after, input_precision="ieee")
            state = after
    # Numbers without tokens are walked as well, and want a state.
    for i in tl.range(steps, numbers):
        store_state((state,), starts, ((group + i) * HV + i_hv) * K * V, column, K, V, KP, KP)
    if FINAL:
        store_state((state,), ht, i_nh * K * V, column, K, V, KP, KP)


def infer_grouped(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht), as `infer_packed`; in groups if the configuration has any."""
    if not call.config.group:
        return infer_packed(call, final=final)
    groups = group_bounds(call)
    walked = packed_scores(groups)
    # A group that is not full is the last of its sequence, and makes nothing but the final state.
    maps = group_maps(groups, walked, skipped=0 if final else call.config.group_tokens - 1)
    starts, ht = group_starts(call, maps, final=final)
    o, _ = packed_walk(replace(groups, h0=starts), walked, final=False)
    return o, ht


def group_bounds(call: Call) -> Call:
    """The call on the same tokens whose sequences are the groups."""
    L, tile = call.config.group_tokens, SPACES["group_bounds"].only
    packed = call.cu_seqlens is not None
    count = call.shapes.tokens // L + call.sequences if packed else call.sequences * triton.cdiv(call.length, L)
    bounds = torch.empty(count + 1, dtype=torch.int64, device=call.q.device)
    group_bounds_kernel[(triton.cdiv(call.sequences, SEQUENCES_AT_ONCE),)](
        bounds=bounds,
        cu_seqlens=call.cu_seqlens,
        sequences=call.sequences,
        length=call.length,
        L=L,
        BN=SEQUENCES_AT_ONCE,
        BG=GROUPS_AT_ONCE,
        PACKED=packed,
        **launch_options(tile.num_warps, tile.num_stages),
    )
    return replace(call, cu_seqlens=bounds, sequences=count)


def group_maps(groups: Call, walked: Walked, *, skipped: int) -> torch.Tensor:
    """[groups, HV, K, V + K] fp32: B and M of every group of more than `skipped` tokens; [..., V + 1] where nothing is erased."""
    shapes, tile = groups.shapes, groups.config.maps
    width = shapes.V + (shapes.K if shapes.ERASE else 1)
    maps = groups.v.new_empty(groups.sequences, shapes.HV, shapes.K, width, dtype=torch.float32)
    block = min(tile.block, shapes.V_block)
    group_maps_kernel[(groups.sequences * shapes.HV, triton.cdiv(width, block))](
        erasers=walked.erasers,
        writers=walked.writers,
        total=walked.total,
        v=groups.v,
        w=groups.w,
        maps=maps,
        cu_seqlens=groups.cu_seqlens,
        skipped=skipped,
        W=width,
        C=groups.config.chunk_size,
        KP=shapes.K_block,
        BV=block,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("HV", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return maps


def group_starts(call: Call, maps: torch.Tensor, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(starts, ht): states before the groups [groups, HV, K, V] and after the sequences, fp32; ht is empty unless `final`."""
    shapes, tile = call.shapes, SPACES["group_starts"].only
    starts = maps.new_empty(maps.shape[0], shapes.HV, shapes.K, shapes.V)
    ht = maps.new_empty(call.sequences if final else 0, shapes.HV, shapes.K, shapes.V)
    group_starts_kernel[(call.sequences * shapes.HV, triton.cdiv(shapes.V, JOINED_COLUMNS))](
        maps=maps,
        h0=call.h0,
        starts=starts,
        ht=ht,
        cu_seqlens=call.cu_seqlens,
        length=call.length,
        L=call.config.group_tokens,
        W=maps.shape[-1],
        KP=shapes.K_block,
        BK=min(JOINED_ELEMENTS // shapes.K_block, shapes.K_block),
        BV=JOINED_COLUMNS,
        PACKED=call.cu_seqlens is not None,
        INITIAL=call.h0 is not None,
        FINAL=final,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("HV", "K", "V", "ERASE"),
    )
    return starts, ht
