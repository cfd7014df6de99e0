"""The token recurrence on a pool of states, each updated where it lies: decoding with continuous batching (GDN-2 Eq. 8-10).

Nothing is read from the device before the launch, and no memory but the outputs is set aside, so that a call can be
captured into a CUDA graph and replayed with other slots, states and tokens.
"""

import torch
import triton
import triton.language as tl

from ...arguments.shapes import Shapes
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_options import launch_options
from ..device.chunk import sequence
from ..device.decay import softplus
from ..prologue.normalise import EPS


@triton.jit
def pool_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    v,  # [tokens, HV, V]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    w,  # [tokens, HV] or [tokens, HV, V]
    A_log,  # [G], where g is raw
    dt_bias,  # [G] or [G * K], where g is raw
    states,  # [S, HV, K, V], or [S, HV, V, K]
    slots,  # [N]
    o,  # [tokens, HV, V]
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
    KP: tl.constexpr,
    BV: tl.constexpr,
    DECAY: tl.constexpr,
    ERASE: tl.constexpr,
    WRITE: tl.constexpr,
    NORMALISE: tl.constexpr,
    RAW: tl.constexpr,
    PACKED: tl.constexpr,
    SLOTS: tl.constexpr,
    ALONG: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all tokens in turn. K is axis ALONG of the state.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    i_h = i_hv // (HV // H)
    i_g = i_hv // (HV // G)
    i_b = i_hv // (HV // B)
    channel = tl.arange(0, KP)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    inside_k = channel < K
    inside_v = column < V
    slot = i_n
    if SLOTS:
        slot = tl.load(slots + i_n).to(tl.int64)
    first, end = sequence(cu_seqlens, i_n, length, PACKED)
    if slot < 0:
        # Nobody's tokens: a graph is captured for more sequences than there are.
        for t in range(first, end):
            tl.store(o + (t * HV + i_hv) * V + column, tl.zeros([BV], o.dtype.element_ty), mask=inside_v)
        return
    # The state lies in memory as it is held: K along the rows and V along the columns, or the other way round.
    keys = tl.expand_dims(channel, 1 - ALONG) * (1 if ALONG == 1 else V)
    values = tl.expand_dims(column, ALONG) * (K if ALONG == 1 else 1)
    at = states + (slot * HV + i_hv) * K * V + (keys + values)
    inside = tl.expand_dims(inside_k, 1 - ALONG) & tl.expand_dims(inside_v, ALONG)
    state = tl.load(at, mask=inside, other=0.0).to(tl.float32)
    for t in range(first, end):
        key_at = (t * H + i_h) * K + channel
        value_at = (t * HV + i_hv) * V + column
        query = tl.load(q + key_at, mask=inside_k, other=0.0).to(tl.float32)
        key = tl.load(k + key_at, mask=inside_k, other=0.0).to(tl.float32)
        write = tl.load(v + value_at, mask=inside_v, other=0.0).to(tl.float32)
        if NORMALISE:
            query *= tl.rsqrt(tl.sum(query * query, 0) + eps)
            key *= tl.rsqrt(tl.sum(key * key, 0) + eps)
        if DECAY == CHANNEL:
            decay = tl.load(g + (t * G + i_g) * K + channel, mask=inside_k, other=0.0).to(tl.float32)
            if RAW:
                bias = tl.load(dt_bias + i_g * K + channel, mask=inside_k, other=0.0).to(tl.float32)
                decay = -tl.exp(tl.load(A_log + i_g).to(tl.float32)) * softplus(decay + bias)
            state *= tl.expand_dims(tl.exp(decay), 1 - ALONG)
        elif DECAY == SCALAR:
            decay = tl.load(g + t * G + i_g).to(tl.float32)
            if RAW:
                bias = tl.load(dt_bias + i_g).to(tl.float32)
                decay = -tl.exp(tl.load(A_log + i_g).to(tl.float32)) * softplus(decay + bias)
            state *= tl.exp(decay)
        if WRITE == CHANNEL:
            write *= tl.load(w + value_at, mask=inside_v, other=0.0).to(tl.float32)
        elif WRITE == SCALAR:
            write *= tl.load(w + t * HV + i_hv).to(tl.float32)
        key_along = tl.expand_dims(key, 1 - ALONG)
        if ERASE == CHANNEL:
            erase = key * tl.load(b + (t * B + i_b) * K + channel, mask=inside_k, other=0.0).to(tl.float32)
            write -= tl.sum(tl.expand_dims(erase, 1 - ALONG) * state, ALONG)
        elif ERASE == SCALAR:
            gate = tl.load(b + t * B + i_b).to(tl.float32)
            if WRITE == NONE:
                write *= gate
            write -= gate * tl.sum(key_along * state, ALONG)
        state += key_along * tl.expand_dims(write, ALONG)
        out = scale * tl.sum(tl.expand_dims(query, 1 - ALONG) * state, ALONG)
        tl.store(o + value_at, out.to(o.dtype.element_ty), mask=inside_v)
    tl.store(at, state, mask=inside)


def walk_pool(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    g: torch.Tensor | None,
    b: torch.Tensor | None,
    w: torch.Tensor | None,
    A_log: torch.Tensor | None,
    dt_bias: torch.Tensor | None,
    states: torch.Tensor,
    slots: torch.Tensor | None,
    cu_seqlens: torch.Tensor | None,
    *,
    sequences: int,
    scale: float,
    normalise: bool,
    v_first: bool,
    block: int,
    num_warps: int,
) -> torch.Tensor:
    """o like v of contiguous tensors, [tokens, ...] or [B, T, ...]; `states` [S, HV, K, V] fp32 (or [S, HV, V, K]) holds the new
    states afterwards."""
    shapes = Shapes.of(q, v, g, b, w)
    block = min(block, shapes.V_block)
    o = torch.empty_like(v)
    pool_kernel[(sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        q=q,
        k=k,
        v=v,
        g=g,
        b=b,
        w=w,
        A_log=A_log,
        dt_bias=dt_bias,
        states=states,
        slots=slots,
        o=o,
        cu_seqlens=cu_seqlens,
        length=shapes.tokens // max(sequences, 1),
        scale=scale,
        eps=EPS,
        KP=shapes.K_block,
        BV=block,
        NORMALISE=normalise,
        RAW=A_log is not None,
        PACKED=cu_seqlens is not None,
        SLOTS=slots is not None,
        ALONG=int(v_first),
        **launch_options(num_warps),
        **shapes.constants("H", "HV", "G", "B", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return o
