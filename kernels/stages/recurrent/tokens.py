"""The token recurrence, for decoding and short prompts (GDN-2 Eq. 8-10): the state never leaves the registers."""

import torch
import triton
import triton.language as tl

from ...arguments.call import Call
from ...arguments.shapes import Shapes
from ...arguments.ties import CHANNEL, NONE, SCALAR
from ...configs.launch_options import launch_options


@triton.jit
def tokens_kernel(
    q,  # [tokens, H, K]
    k,  # [tokens, H, K]
    v,  # [tokens, HV, V]
    g,  # [tokens, G] or [tokens, G, K]
    b,  # [tokens, B] or [tokens, B, K]
    w,  # [tokens, HV] or [tokens, HV, V]
    h0,  # [N, HV, K, V]
    o,  # [tokens, HV, V]
    ht,  # [N, HV, K, V]
    cu_seqlens,  # [N + 1]
    scale,
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
    INITIAL: tl.constexpr,
    FINAL: tl.constexpr,
):
    # One program: one (sequence, value head), BV columns of the state, all tokens in turn.
    i_nh = tl.program_id(0).to(tl.int64)
    i_n = i_nh // HV
    i_hv = i_nh % HV
    i_h = i_hv // (HV // H)
    channel = tl.arange(0, KP)
    column = tl.program_id(1) * BV + tl.arange(0, BV)
    inside_k = channel < K
    inside_v = column < V
    state_at = i_nh * K * V + channel[:, None] * V + column[None, :]
    inside = inside_k[:, None] & inside_v[None, :]
    if INITIAL:
        state = tl.load(h0 + state_at, mask=inside, other=0.0).to(tl.float32)
    else:
        state = tl.zeros([KP, BV], tl.float32)
    for t in range(tl.load(cu_seqlens + i_n), tl.load(cu_seqlens + i_n + 1)):
        key_at = (t * H + i_h) * K + channel
        value_at = (t * HV + i_hv) * V + column
        query = tl.load(q + key_at, mask=inside_k, other=0.0).to(tl.float32)
        key = tl.load(k + key_at, mask=inside_k, other=0.0).to(tl.float32)
        write = tl.load(v + value_at, mask=inside_v, other=0.0).to(tl.float32)
        if DECAY == CHANNEL:
            decay = tl.load(g + (t * G + i_hv // (HV // G)) * K + channel, mask=inside_k, other=0.0).to(tl.float32)
            state *= tl.exp(decay)[:, None]
        elif DECAY == SCALAR:
            state *= tl.exp(tl.load(g + t * G + i_hv // (HV // G)).to(tl.float32))
        if WRITE == CHANNEL:
            write *= tl.load(w + value_at, mask=inside_v, other=0.0).to(tl.float32)
        elif WRITE == SCALAR:
            write *= tl.load(w + t * HV + i_hv).to(tl.float32)
        if ERASE == CHANNEL:
            erase = key * tl.load(b + (t * B + i_hv // (HV // B)) * K + channel, mask=inside_k, other=0.0).to(
                tl.float32
            )
            write -= tl.sum(erase[:, None] * state, 0)
        elif ERASE == SCALAR:
            gate = tl.load(b + t * B + i_hv // (HV // B)).to(tl.float32)
            if WRITE == NONE:
                write *= gate
            write -= gate * tl.sum(key[:, None] * state, 0)
        state += key[:, None] * write[None, :]
        out = scale * tl.sum(query[:, None] * state, 0)
        tl.store(o + value_at, out.to(o.dtype.element_ty), mask=inside_v)
    if FINAL:
        tl.store(ht + state_at, state, mask=inside)


def walk_tokens(call: Call, *, final: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(o, ht): outputs [tokens, HV, V] in v's dtype and final states [N, HV, K, V] fp32, empty unless `final`."""
    shapes = Shapes.of(call.q, call.v, call.g, call.b, call.w)
    tile = call.config.states
    block = min(tile.block, shapes.V_block)
    sequences = call.sequences
    o = torch.empty_like(call.v)
    ht = call.v.new_empty(sequences if final else 0, shapes.HV, shapes.K, shapes.V, dtype=torch.float32)
    tokens_kernel[(sequences * shapes.HV, triton.cdiv(shapes.V, block))](
        q=call.q,
        k=call.k,
        v=call.v,
        g=call.g,
        b=call.b,
        w=call.w,
        h0=call.h0,
        o=o,
        ht=ht,
        cu_seqlens=call.cu_seqlens,
        scale=call.scale,
        KP=shapes.K_block,
        BV=block,
        INITIAL=call.h0 is not None,
        FINAL=final,
        **launch_options(tile.num_warps, tile.num_stages),
        **shapes.constants("H", "HV", "G", "B", "K", "V", "DECAY", "ERASE", "WRITE"),
    )
    return o, ht
