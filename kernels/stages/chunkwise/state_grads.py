"""Backward stage 1: walk the chunks backwards with the gradient of the state in registers.

    dR = Aqk^T do + Kt dSC,   dX = A^T dR,   dS0 = scale * Qbar^T do + gamma_C dSC - Ebar^T dX

(GDN-2 Appendix B; dX is also the gradient of z.) The gradient of the state after each chunk and dX are stored.
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.layout import Layout
from ...arguments.ties import NONE
from ...configs.launch_options import launch_options
from ..device.chunk import load_state, store_state
from .operands import Operands, load_operand, load_total


@triton.jit
def state_grads_kernel(
    queries,  # [tokens, HV, K]: Qbar
    erasers,  # [tokens, HV, K]: -Ebar
    keys,  # [tokens, HV, K]: Kt
    total,  # [M, HV] or [M, HV, K]: decay of each chunk
    aqk,  # [tokens, HV, C]
    a,  # [tokens, HV, C]
    do,  # [tokens, HV, V]
    dht,  # [N, HV, K, V]
    dh,  # [M, HV, K, V]: gradient of the state after each chunk
    dx,  # [tokens, HV, V]
    dh0,  # [N, HV, K, V]
    cu_seqlens,  # [N + 1]
    first_chunk,  # [N + 1]
    scale,
    HV: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    KP: tl.constexpr,
    BV: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    INITIAL: tl.constexpr,
    FINAL: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all chunks from the last to the first.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    row = tl.arange(0, C)
    channel = tl.arange(0, KP)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    state_at = channel[:, None] * V + column[None, :]
    state_inside = (channel[:, None] < K) & (column[None, :] < V)
    (dstate,) = load_state(dht, i_nh * K * V, column, K, V, KP, KP, BV, FINAL)
    first = tl.load(cu_seqlens + i_n)
    end = tl.load(cu_seqlens + i_n + 1)
    chunk = tl.load(first_chunk + i_n)
    count = tl.cdiv(end - first, C).to(tl.int32)
    for step in tl.range(0, count):
        i = count - 1 - step
        start = first + i * C
        rows = tl.minimum(end - start, C)
        i_c = chunk + i
        kept = load_total(total, i_c, i_hv, channel, HV, K, DECAY)
        operand = dstate.to(dh.dtype.element_ty)
        tl.store(dh + (i_c * HV + i_hv) * K * V + state_at, operand, mask=state_inside)
        out_grad = load_operand(do, start, rows, i_hv, row, column, HV, V)
        grad = tl.dot(load_operand(keys, start, rows, i_hv, row, channel, HV, K), operand, input_precision="ieee")
        score = tl.trans(load_operand(aqk, start, rows, i_hv, row, row, HV, C))
        grad = tl.dot(score, out_grad, grad, input_precision="ieee")
        query = tl.trans(load_operand(queries, start, rows, i_hv, row, channel, HV, K))
        dstate = dstate * kept + scale * tl.dot(query, out_grad, input_precision="ieee")
        if ERASE != NONE:
            inverse = tl.trans(load_operand(a, start, rows, i_hv, row, row, HV, C))
            grad = tl.dot(inverse, grad.to(dh.dtype.element_ty), input_precision="ieee")
            erase = tl.trans(load_operand(erasers, start, rows, i_hv, row, channel, HV, K))
            dstate = tl.dot(erase, grad.to(dh.dtype.element_ty), dstate, input_precision="ieee")
        inside_v = (row[:, None] < rows) & (column[None, :] < V)
        at = ((start + row[:, None]) * HV + i_hv) * V + column[None, :]
        tl.store(dx + at, grad.to(dx.dtype.element_ty), mask=inside_v)
    if INITIAL:
        store_state((dstate,), dh0, i_nh * K * V, column, K, V, KP, KP)


def state_grads(
    call: Call,
    layout: Layout,
    given: Operands,
    aqk: torch.Tensor,
    a: torch.Tensor,
    do: torch.Tensor,
    dht: torch.Tensor | None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dh, dx, dh0): gradients of the states after each chunk [M, HV, K, V] and of X [tokens, HV, V] in do's dtype, and
    of the initial states [N, HV, K, V] fp32, empty where the call has none."""
    shapes, tile, initial = call.shapes, call.config.state_grads, call.h0 is not None
    sizes = (shapes.HV, shapes.K, shapes.V)
    dh = do.new_empty(layout.chunks.shape[0], *sizes)
    dx = torch.empty_like(do)
    dh0 = do.new_empty(layout.sequences if initial else 0, *sizes, dtype=torch.float32)
    block = min(tile.block, shapes.V_block)
    state_grads_kernel[(layout.sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        **given._asdict(),
        aqk=aqk,
        a=a,
        do=do,
        dht=dht,
        dh=dh,
        dx=dx,
        dh0=dh0,
        cu_seqlens=layout.cu_seqlens,
        first_chunk=layout.first_chunk,
        scale=call.scale,
        C=call.config.chunk_size,
        KP=shapes.K_block,
        BV=block,
        INITIAL=initial,
        FINAL=dht is not None,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("HV", "K", "V", "DECAY", "ERASE"),
    )
    return dh, dx, dh0
