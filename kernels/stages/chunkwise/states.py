"""Stage 3: walk the chunks of a sequence with the state in registers.

    X = z - Ebar S0,   R = A X,   SC = gamma_C S0 + Kt^T R

(GDN-2 Eq. 41-44, with U - Y S0 written as A (z - Ebar S0): one product less to round and to store).
For training the state before each chunk and R are stored; for inference the walk writes the outputs itself.
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.layout import Layout
from ...arguments.ties import NONE
from ...configs.launch_options import launch_options
from ..device.chunk import load_state, store_state
from ..device.rows import load_writes
from .operands import Operands, load_operand, load_total


@triton.jit
def states_kernel(
    queries,  # [tokens, HV, K]: Qbar, read only when outputs are written
    erasers,  # [tokens, HV, K]: -Ebar
    keys,  # [tokens, HV, K]: Kt
    total,  # [M, HV] or [M, HV, K]: decay of each chunk
    v,  # [tokens, HV, V]
    b,  # [tokens, B] or [tokens, B, K]: the write gate as well, where that is tied to one per head
    w,  # [tokens, HV] or [tokens, HV, V]
    aqk,  # [tokens, HV, C], read only when outputs are written
    a,  # [tokens, HV, C]
    h0,  # [N, HV, K, V]
    h,  # [M, HV, K, V]: state before each chunk
    r,  # [tokens, HV, V]
    o,  # [tokens, HV, V]
    ht,  # [N, HV, K, V]
    cu_seqlens,  # [N + 1]
    first_chunk,  # [N + 1]
    scale,
    HV: tl.constexpr,
    B: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    KP: tl.constexpr,
    BV: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
    INITIAL: tl.constexpr,
    FINAL: tl.constexpr,
    OUTPUT: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all chunks in turn.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    row = tl.arange(0, C)
    channel = tl.arange(0, KP)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    state_at = channel[:, None] * V + column[None, :]
    state_inside = (channel[:, None] < K) & (column[None, :] < V)
    (state,) = load_state(h0, i_nh * K * V, column, K, V, KP, KP, BV, INITIAL)
    first = tl.load(cu_seqlens + i_n)
    end = tl.load(cu_seqlens + i_n + 1)
    chunk = tl.load(first_chunk + i_n)
    # The compiler prefetches only the operands of products: the other inputs are loaded a chunk ahead.
    value, gate = load_writes(v, w, b, first, end - first, i_hv, row, column, HV, B, V, ERASE, WRITE)
    for i in tl.range(0, tl.cdiv(end - first, C).to(tl.int32)):
        start = first + i * C
        rows = tl.minimum(end - start, C)
        i_c = chunk + i
        kept = load_total(total, i_c, i_hv, channel, HV, K, DECAY)
        x = gate * value
        value, gate = load_writes(v, w, b, start + C, end - start - C, i_hv, row, column, HV, B, V, ERASE, WRITE)
        operand = state.to(v.dtype.element_ty)
        if ERASE != NONE:
            x = tl.dot(
                load_operand(erasers, start, rows, i_hv, row, channel, HV, K), operand, x, input_precision="ieee"
            )
            inverse = load_operand(a, start, rows, i_hv, row, row, HV, C)
            x = tl.dot(inverse, x.to(v.dtype.element_ty), input_precision="ieee")
        write = x.to(v.dtype.element_ty)
        value_at = ((start + row[:, None]) * HV + i_hv) * V + column[None, :]
        inside_v = (row[:, None] < rows) & (column[None, :] < V)
        if OUTPUT:
            query = load_operand(queries, start, rows, i_hv, row, channel, HV, K)
            out = scale * tl.dot(query, operand, input_precision="ieee")
            score = load_operand(aqk, start, rows, i_hv, row, row, HV, C)
            out = tl.dot(score, write, out, input_precision="ieee")
            tl.store(o + value_at, out.to(o.dtype.element_ty), mask=inside_v)
        else:
            tl.store(h + (i_c * HV + i_hv) * K * V + state_at, operand, mask=state_inside)
            tl.store(r + value_at, write, mask=inside_v)
        key = tl.trans(load_operand(keys, start, rows, i_hv, row, channel, HV, K))
        state = tl.dot(key, write, state * kept, input_precision="ieee")
    if FINAL:
        store_state((state,), ht, i_nh * K * V, column, K, V, KP, KP)


def walk_states(
    call: Call, layout: Layout, given: Operands, aqk: torch.Tensor | None, a: torch.Tensor, *, final: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(h, r, o, ht): states before each chunk [M, HV, K, V] and R [tokens, HV, V] in v's dtype, o [tokens, HV, V], ht fp32.

    With aqk, o is computed and h and r are empty; without it is the other way round. ht is empty unless `final`.
    """
    shapes, tile, v = call.shapes, call.config.states, call.v
    output = aqk is not None
    sizes = (shapes.HV, shapes.K, shapes.V)
    h = v.new_empty(layout.chunks.shape[0], *sizes) if not output else v.new_empty(0)
    r = torch.empty_like(v) if not output else v.new_empty(0)
    o = torch.empty_like(v) if output else v.new_empty(0)
    ht = v.new_empty(layout.sequences if final else 0, *sizes, dtype=torch.float32)
    block = min(tile.block, shapes.V_block)
    states_kernel[(layout.sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        queries=given.queries if output else None,
        erasers=given.erasers,
        keys=given.keys,
        total=given.total,
        v=v,
        b=call.b,
        w=call.w,
        aqk=aqk,
        a=a,
        h0=call.h0,
        h=h,
        r=r,
        o=o,
        ht=ht,
        cu_seqlens=layout.cu_seqlens,
        first_chunk=layout.first_chunk,
        scale=call.scale,
        C=call.config.chunk_size,
        KP=shapes.K_block,
        BV=block,
        INITIAL=call.h0 is not None,
        FINAL=final,
        OUTPUT=output,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("HV", "B", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return h, r, o, ht
