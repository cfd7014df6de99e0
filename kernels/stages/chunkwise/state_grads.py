"""Backward stage 1: walk the chunks backwards with the gradient of the state in registers.

    dR = Aqk^T do + Kt dSC,   dX = A^T dR,   dS0 = scale * Qbar^T do + gamma_C dSC - Ebar^T dX

(GDN-2 Appendix B; dX is also the gradient of z.) The gradient of the state after each chunk and dX are stored.
"""

import torch
import triton
import triton.language as tl

from ...arguments.layout import Layout
from ...arguments.shapes import Shapes
from ...arguments.ties import NONE
from ...configs.launch_config import LaunchConfig
from ...configs.launch_options import launch_options
from .scores import erase_key
from .states import chunk_factors


@triton.jit
def state_grads_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    aqk,  # [tokens, HV, C]
    a,  # [tokens, HV, C]
    do,  # [tokens, HV, V]
    dht,  # [N, HV, K, V]
    dh,  # [M, HV, K, V]: gradient of the state after each chunk
    dx,  # [tokens, HV, V]
    dh0,  # [N, HV, K, V]
    chunks,  # [M, 2]
    first_chunk,  # [N + 1]
    scale,
    H: tl.constexpr,
    HV: tl.constexpr,
    G: tl.constexpr,
    B: tl.constexpr,
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
    if FINAL:
        dstate = tl.load(dht + i_nh * K * V + state_at, mask=state_inside, other=0.0).to(tl.float32)
    else:
        dstate = tl.zeros([KP, BV], tl.float32)
    first = tl.load(first_chunk + i_n)
    last = tl.load(first_chunk + i_n + 1)
    for step in range(0, last - first):
        i_c = last - 1 - step
        start = tl.load(chunks + 2 * i_c)
        rows = tl.load(chunks + 2 * i_c + 1)
        operand = dstate.to(k.dtype.element_ty)
        tl.store(dh + (i_c * HV + i_hv) * K * V + state_at, operand, mask=state_inside)
        inside_k = (row[:, None] < rows) & (channel[None, :] < K)
        inside_v = (row[:, None] < rows) & (column[None, :] < V)
        at = ((start + row[:, None]) * H + i_hv // (HV // H)) * K + channel[None, :]
        y = tl.load(k + at, mask=inside_k, other=0.0).to(tl.float32)
        up, down, total = chunk_factors(g, start, rows, i_hv // (HV // G), row, channel, G, K, DECAY)
        query = (tl.load(q + at, mask=inside_k, other=0.0).to(tl.float32) * up).to(q.dtype.element_ty)
        at = (start + row[:, None]) * HV + i_hv
        out_grad = tl.load(do + at * V + column[None, :], mask=inside_v, other=0.0)
        score = tl.load(aqk + at * C + row[None, :], mask=row[:, None] < rows, other=0.0)
        grad = tl.dot((y * down).to(k.dtype.element_ty), operand, input_precision="ieee")
        grad += tl.dot(tl.trans(score), out_grad, input_precision="ieee")
        dstate = dstate * total[:, None] + scale * tl.dot(tl.trans(query), out_grad, input_precision="ieee")
        if ERASE != NONE:
            inverse = tl.load(a + at * C + row[None, :], mask=row[:, None] < rows, other=0.0)
            grad = tl.dot(tl.trans(inverse), grad.to(k.dtype.element_ty), input_precision="ieee")
            e, _ = erase_key(b, y, start, rows, i_hv // (HV // B), row, channel, B, K, ERASE)
            erase = tl.trans((e * up).to(k.dtype.element_ty))
            dstate -= tl.dot(erase, grad.to(k.dtype.element_ty), input_precision="ieee")
        tl.store(dx + at * V + column[None, :], grad.to(dx.dtype.element_ty), mask=inside_v)
    if INITIAL:
        tl.store(dh0 + i_nh * K * V + state_at, dstate, mask=state_inside)


def state_grads(
    q: torch.Tensor,
    k: torch.Tensor,
    g: torch.Tensor | None,
    b: torch.Tensor | None,
    aqk: torch.Tensor,
    a: torch.Tensor,
    do: torch.Tensor,
    dht: torch.Tensor | None,
    *,
    scale: float,
    initial: bool,
    shapes: Shapes,
    layout: Layout,
    config: LaunchConfig,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(dh, dx, dh0): gradients of the states after each chunk [M, HV, K, V] and of X [tokens, HV, V] in q's dtype, and
    of the initial states [N, HV, K, V] fp32, empty unless `initial`."""
    tile = config.state_grads
    sizes = (shapes.HV, shapes.K, shapes.V)
    dh = q.new_empty(layout.chunks.shape[0], *sizes)
    dx = torch.empty_like(do)
    dh0 = q.new_empty(layout.sequences if initial else 0, *sizes, dtype=torch.float32)
    block = min(tile.block, shapes.V_block)
    state_grads_kernel[(layout.sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        q=q,
        k=k,
        g=g,
        b=b,
        aqk=aqk,
        a=a,
        do=do,
        dht=dht,
        dh=dh,
        dx=dx,
        dh0=dh0,
        chunks=layout.chunks,
        first_chunk=layout.first_chunk,
        scale=scale,
        C=config.chunk_size,
        KP=shapes.K_block,
        BV=block,
        INITIAL=initial,
        FINAL=dht is not None,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "V", "DECAY", "ERASE"),
    )
    return dh, dx, dh0
