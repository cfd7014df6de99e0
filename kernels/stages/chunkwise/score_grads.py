"""Backward stage 2: gradients of a chunk's scores, of the values and of the write gate.

    dAqk = scale * tril(do R^T),   dT = -stril(dX R^T),   dv = w * dX,   dw = v * dX

(GDN-2 Appendix B; dT = -A^T dA A^T collapses because R = A X.)
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.layout import Layout
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_options import launch_options
from ..device.rows import load_writes


@triton.jit
def score_grads_kernel(
    v,  # [tokens, HV, V]
    b,  # [tokens, B] or [tokens, B, K]
    w,  # [tokens, HV] or [tokens, HV, V]
    r,  # [tokens, HV, V]
    do,  # [tokens, HV, V]
    dx,  # [tokens, HV, V]
    daqk,  # [tokens, HV, C]
    dt,  # [tokens, HV, C]
    dv,  # [tokens, HV, V]
    dw,  # [tokens, HV, V], or [tokens, HV] for one gate per head, w's own or b's
    chunks,  # [M, 2]
    scale,
    HV: tl.constexpr,
    B: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BV: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
):
    # One program: one (chunk, value head), all of V.
    i_c = tl.program_id(0)
    i_hv = tl.program_id(1)
    start = tl.load(chunks + 2 * i_c)
    rows = tl.load(chunks + 2 * i_c + 1)
    if rows == 0:
        return
    row = tl.arange(0, C)
    at = (start + row[:, None]) * HV + i_hv
    s_qk = tl.zeros([C, C], tl.float32)
    s_kk = tl.zeros([C, C], tl.float32)
    gate_grad = tl.zeros([C], tl.float32)
    for first in range(0, V, BV):
        column = first + tl.arange(0, BV)
        inside = (row[:, None] < rows) & (column[None, :] < V)
        value_at = at * V + column[None, :]
        write = tl.trans(tl.load(r + value_at, mask=inside, other=0.0))
        out_grad = tl.load(do + value_at, mask=inside, other=0.0)
        x_grad = tl.load(dx + value_at, mask=inside, other=0.0)
        s_qk += tl.dot(out_grad, write, input_precision="ieee")
        if ERASE != NONE:
            s_kk -= tl.dot(x_grad, write, input_precision="ieee")
        value, gate = load_writes(v, w, b, start, rows, i_hv, row, column, HV, B, V, ERASE, WRITE)
        x_grad = x_grad.to(tl.float32)
        tl.store(dv + value_at, (x_grad * gate).to(dv.dtype.element_ty), mask=inside)
        if WRITE == CHANNEL:
            tl.store(dw + value_at, (x_grad * value).to(dw.dtype.element_ty), mask=inside)
        else:
            gate_grad += tl.sum(x_grad * value, 1)
    if WRITE == SCALAR or ERASE == SCALAR:
        if WRITE != CHANNEL:
            tl.store(dw + (start + row) * HV + i_hv, gate_grad.to(dw.dtype.element_ty), mask=row < rows)
    score_at = at * C + row[None, :]
    s_qk = tl.where(row[:, None] >= row[None, :], s_qk * scale, 0.0)
    tl.store(daqk + score_at, s_qk.to(daqk.dtype.element_ty), mask=row[:, None] < rows)
    if ERASE != NONE:
        s_kk = tl.where(row[:, None] > row[None, :], s_kk, 0.0)
        tl.store(dt + score_at, s_kk.to(dt.dtype.element_ty), mask=row[:, None] < rows)


def score_grads(
    call: Call, layout: Layout, r: torch.Tensor, do: torch.Tensor, dx: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """(daqk, dt, dv, dw): [tokens, HV, C] in v's dtype (dt empty without erase), dv like v, dw like w.

    For a write gate tied to b, dw is its share of b's gradient, [tokens, HV] fp32; where there is neither, dw is empty.
    """
    shapes, tile, v, b, w = call.shapes, call.config.score_grads, call.v, call.b, call.w
    daqk = v.new_empty(shapes.tokens, shapes.HV, call.config.chunk_size)
    dt = torch.empty_like(daqk) if b is not None else v.new_empty(0)
    dv = torch.empty_like(v)
    if w is not None:
        dw = torch.empty_like(w)
    else:
        dw = v.new_empty((shapes.tokens, shapes.HV) if b is not None else 0, dtype=torch.float32)
    score_grads_kernel[(layout.chunks.shape[0], shapes.HV)](
        v=v,
        b=b,
        w=w,
        r=r,
        do=do,
        dx=dx,
        daqk=daqk,
        dt=dt,
        dv=dv,
        dw=dw,
        chunks=layout.chunks,
        scale=call.scale,
        C=call.config.chunk_size,
        BV=min(tile.block, shapes.V_block),
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("HV", "B", "V", "ERASE", "WRITE"),
    )
    return daqk, dt, dv, dw
