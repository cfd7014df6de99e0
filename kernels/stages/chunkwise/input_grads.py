"""Backward stage 3: gradients of queries, keys, decays and erase gates, chunk by chunk.

A query, erase key or key meets the state (through Qbar, Ebar, Kt) and its chunk-mates (through the scores), GDN-2 Appendix B. The
gradient of a decay g_t is the sum of the contributions of all pairs of a source before row t and a sink at t or later. The usual
reverse sum of q dq + e de - k dk adds each pair once and takes it away again, and loses every digit under strong decay; here each
pair is added only where it counts. At level h of the dyadic split those are sums over the sinks of an upper half and the sources
of a lower half (`crossing`), and at level C over the rows that meet the state.
"""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.layout import Layout
from ...arguments.shapes import SCALAR as SCALAR_TIE
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_options import launch_options
from ..device.decay import pair_decay, sums
from ..device.pair_grads import crossing, pair_grads
from ..device.rows import load_decay, load_gate, load_rows
from ..device.sixteen import added, exponentials, load_sixteen, scaled, stack, unstack
from .fold import fold


@triton.jit
def sum_rows(x, keep):
    """For each row t, the sum of a column vector [C] over the rows that `keep` [C, C] keeps."""
    return tl.sum(tl.where(keep, x[None, :], 0.0), 1)[:, None]


@triton.jit
def store_gate_grad(grad, out, start, rows, head, row, channel, i_k, tokens,
                    HEADS: tl.constexpr, K: tl.constexpr, TIE: tl.constexpr):  # fmt: skip
    """Store a gate's gradient [C, BK], or this K block's share [C, 1] of a gradient per head."""
    if TIE == CHANNEL:
        at = out + ((start + row[:, None]) * HEADS + head) * K + channel[None, :]
        tl.store(at, grad.to(out.dtype.element_ty), mask=(row[:, None] < rows) & (channel[None, :] < K))
    else:
        at = out + (i_k * tokens + start + row[:, None]) * HEADS + head
        tl.store(at, grad.to(out.dtype.element_ty), mask=row[:, None] < rows)


@triton.jit
def state_terms(r, h, do, dx, dh, i_c, start, rows, i_hv, row, channel,
                HV: tl.constexpr, K: tl.constexpr, V: tl.constexpr, BV: tl.constexpr, ERASE: tl.constexpr):  # fmt: skip
    """Gradients of Qbar (unscaled), Ebar and Kt [C, BK], and the sum over V of the state times its gradient [BK]."""
    C: tl.constexpr = row.shape[0]
    BK: tl.constexpr = channel.shape[0]
    q_grad = tl.zeros([C, BK], tl.float32)
    e_grad = tl.zeros([C, BK], tl.float32)
    k_grad = tl.zeros([C, BK], tl.float32)
    carried = tl.zeros([BK], tl.float32)
    at = (start + row[:, None]) * HV + i_hv
    for first in range(0, V, BV):
        column = first + tl.arange(0, BV)
        inside_v = (row[:, None] < rows) & (column[None, :] < V)
        state_at = ((i_c * HV + i_hv) * K + channel[:, None]) * V + column[None, :]
        inside = (channel[:, None] < K) & (column[None, :] < V)
        before = tl.load(h + state_at, mask=inside, other=0.0)
        behind = tl.load(dh + state_at, mask=inside, other=0.0)
        carried += tl.sum(before.to(tl.float32) * behind.to(tl.float32), 1)
        out_grad = tl.load(do + at * V + column[None, :], mask=inside_v, other=0.0)
        q_grad += tl.dot(out_grad, tl.trans(before), input_precision="ieee")
        write = tl.load(r + at * V + column[None, :], mask=inside_v, other=0.0)
        k_grad += tl.dot(write, tl.trans(behind), input_precision="ieee")
        if ERASE != NONE:
            x_grad = tl.load(dx + at * V + column[None, :], mask=inside_v, other=0.0)
            e_grad -= tl.dot(x_grad, tl.trans(before), input_precision="ieee")
    return q_grad, e_grad, k_grad, carried


@triton.jit
def channel_grads(q, k, g, b, r, h, do, dx, dh, daqk, dt, i_c, start, rows, i_h, i_hv, i_g, i_b, row, channel, scale,
                  H: tl.constexpr, HV: tl.constexpr, G: tl.constexpr, B: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
                  C: tl.constexpr, BV: tl.constexpr, LEVELS: tl.constexpr, ERASE: tl.constexpr):  # fmt: skip
    """Gradients of a value head's queries, keys, decays and erase gates [C, BK], for a decay per channel."""
    q_state, e_state, k_state, carried = state_terms(
        r, h, do, dx, dh, i_c, start, rows, i_hv, row, channel, HV, K, V, BV, ERASE
    )
    queries = load_sixteen(q, start, rows, i_h, channel, C, H, K, CHANNEL)
    keys = load_sixteen(k, start, rows, i_h, channel, C, H, K, CHANNEL)
    decay = exponentials(load_sixteen(g, start, rows, i_g, channel, C, G, K, CHANNEL))
    erasers = keys
    if ERASE != NONE:
        gate = load_sixteen(b, start, rows, i_b, channel, C, B, K, ERASE)
        erasers = scaled(gate, keys)
    q_grad, e_grad, k_grad, decay_grad, up, down, total = pair_grads(
        queries, erasers, keys, decay, daqk, dt, start, rows, i_hv, C, HV, LEVELS, ERASE, k.dtype.element_ty
    )
    q_state = scaled(up, unstack(scale * q_state))
    k_state = scaled(down, unstack(k_state))
    sinks = scaled(queries, q_state)
    q_grad = added(q_grad, q_state)
    k_grad = added(k_grad, k_state)
    erase_grad = carried
    if ERASE != NONE:
        e_state = scaled(up, unstack(e_state))
        e_grad = added(e_grad, e_state)
        sinks = added(sinks, scaled(erasers, e_state))
        k_grad = added(k_grad, scaled(e_grad, gate))
        erase_grad = stack(scaled(e_grad, keys))
    decay_grad = stack(crossing(decay_grad, sinks, scaled(keys, k_state), C // 16))
    own = tl.arange(0, C // 16)[:, None] == 0  # every row of the total is the same
    decay_grad += (tl.sum(tl.where(own, total, 0.0), 0) * carried)[None, :]
    return stack(q_grad), stack(k_grad), decay_grad, erase_grad


@triton.jit
def input_grads_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    r,  # [tokens, HV, V]
    h,  # [M, HV, K, V]
    do,  # [tokens, HV, V]
    dx,  # [tokens, HV, V]
    dh,  # [M, HV, K, V]
    daqk,  # [tokens, HV, C]
    dt,  # [tokens, HV, C]
    dw,  # [tokens, HV]: share of b's gradient, when w is tied to b
    dq,  # [tokens, H, K]
    dk,  # [tokens, H, K]
    dg,  # [tokens, G, K], or shares [K blocks, tokens, G]
    db,  # [tokens, B, K], or shares [K blocks, tokens, B]
    chunks,  # [M, 2]
    tokens,
    scale,
    H: tl.constexpr,
    HV: tl.constexpr,
    G: tl.constexpr,
    B: tl.constexpr,
    K: tl.constexpr,
    V: tl.constexpr,
    C: tl.constexpr,
    BK: tl.constexpr,
    BV: tl.constexpr,
    LEVELS: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
):
    # One program: one (chunk, key head), BK key channels, all value heads of the group and all of V.
    i_c = tl.program_id(0).to(tl.int64)
    i_h = tl.program_id(1)
    i_k = tl.program_id(2).to(tl.int64)
    start = tl.load(chunks + 2 * i_c)
    rows = tl.load(chunks + 2 * i_c + 1)
    if rows == 0:
        return
    row = tl.arange(0, C)
    channel = i_k * BK + tl.arange(0, BK)
    key_at = ((start + row[:, None]) * H + i_h) * K + channel[None, :]
    inside_k = (row[:, None] < rows) & (channel[None, :] < K)
    if DECAY != CHANNEL:
        q_tile = load_rows(q, start, rows, i_h, row, channel, H, K)
        k_tile = load_rows(k, start, rows, i_h, row, channel, H, K)
    q_sum = tl.zeros([C, BK], tl.float32)
    k_sum = tl.zeros([C, BK], tl.float32)
    decay_sum = tl.zeros([C, BK if DECAY == CHANNEL else 1], tl.float32)
    erase_sum = tl.zeros([C, BK if ERASE == CHANNEL else 1], tl.float32)
    for j in range(0, HV // H):
        i_hv = i_h * (HV // H) + j
        i_g = i_hv // (HV // G)
        i_b = i_hv // (HV // B)
        at = (start + row[:, None]) * HV + i_hv
        if DECAY == CHANNEL:
            q_grad, k_grad, decay_grad, erase_grad = channel_grads(
                q,
                k,
                g,
                b,
                r,
                h,
                do,
                dx,
                dh,
                daqk,
                dt,
                i_c,
                start,
                rows,
                i_h,
                i_hv,
                i_g,
                i_b,
                row,
                channel,
                scale,
                H,
                HV,
                G,
                B,
                K,
                V,
                C,
                BV,
                LEVELS,
                ERASE,
            )
        else:
            q_grad, e_grad, k_grad, carried = state_terms(
                r, h, do, dx, dh, i_c, start, rows, i_hv, row, channel, HV, K, V, BV, ERASE
            )
            here = load_decay(g, None, None, start, rows, i_g, row, channel, 0, G, K, DECAY, False)
            after = load_decay(g, None, None, start, rows, i_g, row, channel, 1, G, K, DECAY, False)
            up, down, total = tl.exp(sums(here, False)), tl.exp(sums(after, True)), tl.exp(tl.sum(here, 0))
            q_grad *= scale * up
            k_grad *= down
            sinks = q_tile * q_grad
            if ERASE != NONE:
                gate = load_gate(b, start, rows, i_b, row, channel, B, K, ERASE)
                e_tile = gate * k_tile
                e_grad *= up
                sinks += e_tile * e_grad
            if DECAY == SCALAR:
                decay_grad = sum_rows(tl.sum(sinks, 1), row[None, :] >= row[:, None]) + tl.sum(total * carried)
                decay_grad += sum_rows(tl.sum(k_tile * k_grad, 1), row[None, :] < row[:, None])
            score_at = at * C + row[None, :]
            a_grad = tl.load(daqk + score_at, mask=row[:, None] < rows, other=0.0)
            if ERASE != NONE:
                t_grad = tl.load(dt + score_at, mask=row[:, None] < rows, other=0.0)
            query = q_tile.to(k.dtype.element_ty)
            key = k_tile.to(k.dtype.element_ty)
            if DECAY == SCALAR:
                factor = pair_decay(here, row)
                a_grad = (a_grad * factor).to(k.dtype.element_ty)
                pairs = a_grad * tl.dot(query, tl.trans(key), input_precision="ieee")
            q_grad += tl.dot(a_grad, key, input_precision="ieee")
            k_grad += tl.dot(tl.trans(a_grad), query, input_precision="ieee")
            if ERASE != NONE:
                erase = e_tile.to(k.dtype.element_ty)
                if DECAY == SCALAR:
                    t_grad = (t_grad * factor).to(k.dtype.element_ty)
                    pairs += t_grad * tl.dot(erase, tl.trans(key), input_precision="ieee")
                e_grad += tl.dot(t_grad, key, input_precision="ieee")
                k_grad += tl.dot(tl.trans(t_grad), erase, input_precision="ieee") + e_grad * gate
                erase_grad = e_grad * k_tile
            if DECAY == SCALAR:
                later = tl.cumsum(pairs, 0, reverse=True)
                decay_grad += tl.sum(tl.where(row[None, :] < row[:, None], later, 0.0), 1)[:, None]
        if ERASE != NONE:
            if ERASE == SCALAR:
                erase_grad = tl.sum(erase_grad, 1)[:, None]
                if WRITE == NONE:
                    erase_grad += tl.load(dw + at, mask=row[:, None] < tl.where(i_k == 0, rows, 0), other=0.0)
            if B == H:
                erase_sum += erase_grad
            else:
                store_gate_grad(erase_grad, db, start, rows, i_b, row, channel, i_k, tokens, B, K, ERASE)
        if DECAY != NONE:
            if G == H:
                decay_sum += decay_grad
            else:
                store_gate_grad(decay_grad, dg, start, rows, i_g, row, channel, i_k, tokens, G, K, DECAY)
        q_sum += q_grad
        k_sum += k_grad
    if ERASE != NONE:
        if B == H:
            store_gate_grad(erase_sum, db, start, rows, i_h, row, channel, i_k, tokens, B, K, ERASE)
    if DECAY != NONE:
        if G == H:
            store_gate_grad(decay_sum, dg, start, rows, i_h, row, channel, i_k, tokens, G, K, DECAY)
    tl.store(dq + key_at, q_sum.to(dq.dtype.element_ty), mask=inside_k)
    tl.store(dk + key_at, k_sum.to(dk.dtype.element_ty), mask=inside_k)


def input_grads(
    call: Call, layout: Layout, r: torch.Tensor, h: torch.Tensor, do: torch.Tensor, dx: torch.Tensor, dh: torch.Tensor,
    daqk: torch.Tensor, dt: torch.Tensor, dw: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor | None]:  # fmt: skip
    """(dq, dk, dg, db), each like its tensor, None for a gate that is not there."""
    shapes, tile, C = call.shapes, call.config.input_grads, call.config.chunk_size
    q, k, g, b = call.q, call.k, call.g, call.b
    block = min(tile.block, shapes.K_block)
    blocks = triton.cdiv(shapes.K, block)

    def buffer(gate: torch.Tensor | None, tied: int) -> torch.Tensor | None:
        """Where the kernel writes a gate's gradient: one share per K block for a gate per head."""
        if gate is None or tied != SCALAR_TIE or blocks == 1:
            return None if gate is None else torch.empty_like(gate)
        return gate.new_empty(blocks, *gate.shape, dtype=torch.float32)

    def total(shares: torch.Tensor | None, gate: torch.Tensor | None) -> torch.Tensor | None:
        return shares if shares is None or gate is None or shares.shape == gate.shape else fold(shares, gate)

    dq, dk = torch.empty_like(q), torch.empty_like(k)
    dg, db = buffer(g, shapes.DECAY), buffer(b, shapes.ERASE)
    input_grads_kernel[(layout.chunks.shape[0], shapes.H, blocks)](
        q=q,
        k=k,
        g=g,
        b=b,
        r=r,
        h=h,
        do=do,
        dx=dx,
        dh=dh,
        daqk=daqk,
        dt=dt,
        dw=dw,
        dq=dq,
        dk=dk,
        dg=dg,
        db=db,
        chunks=layout.chunks,
        tokens=shapes.tokens,
        scale=call.scale,
        C=C,
        BK=block,
        BV=min(tile.block, shapes.V_block),
        LEVELS=C.bit_length() - 1,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return dq, dk, total(dg, g), total(db, b)
