"""Device functions for one chunk of one value head: its scores, and its step of the state.

`chunk_scores` gives Aqk and T, `advance` takes the state from before the chunk to behind it and gives the outputs
(`stages/__init__.py` has the notation, GDN-2 Eq. 36-44). Kernels differ in where they keep what passes between the two.
"""

import triton
import triton.language as tl

from ...arguments.ties import CHANNEL, NONE, SCALAR
from .decay import double, meets, pair_decay, sums
from .rows import load_decay_of, load_gate, load_rows, load_writes, reciprocal_norms

STATE_ROWS = 64
"""Rows of a block of the state: the fewest that Hopper's matrix instructions take."""


@triton.jit
def sequence(cu_seqlens, i_n, length, PACKED: tl.constexpr):
    """First token of a sequence, and the end of it."""
    if PACKED:
        return tl.load(cu_seqlens + i_n).to(tl.int64), tl.load(cu_seqlens + i_n + 1).to(tl.int64)
    else:
        first = i_n.to(tl.int64) * length
        return first, first + length


@triton.jit
def chunk_scores(q, k, g, b, A_log, dt_bias, start, rows, row, i_hv, scale, eps,
                 H: tl.constexpr, HV: tl.constexpr, G: tl.constexpr, B: tl.constexpr, K: tl.constexpr,
                 BK: tl.constexpr, LEVELS: tl.constexpr, DECAY: tl.constexpr, ERASE: tl.constexpr,
                 NORMALISE: tl.constexpr, RAW: tl.constexpr):  # fmt: skip
    """Aqk (lower, scaled) and T (strictly lower) [C, C], both fp32; T is 0 for a rule that erases nothing."""
    C: tl.constexpr = row.shape[0]
    i_h = i_hv // (HV // H)
    i_g = i_hv // (HV // G)
    s_qk = tl.zeros([C, C], tl.float32)
    s_kk = tl.zeros([C, C], tl.float32)
    if NORMALISE:
        q_norm = reciprocal_norms(q, start, rows, i_h, row, eps, H, K, K, BK)
        k_norm = reciprocal_norms(k, start, rows, i_h, row, eps, H, K, K, BK)
    for first in range(0, K, BK):
        channel = first + tl.arange(0, BK)
        x = load_rows(q, start, rows, i_h, row, channel, H, K)
        y = load_rows(k, start, rows, i_h, row, channel, H, K)
        if NORMALISE:
            x *= q_norm[:, None]
            y *= k_norm[:, None]
        if ERASE != NONE:
            e = y * load_gate(b, start, rows, i_hv // (HV // B), row, channel, B, K, ERASE)
        if DECAY == CHANNEL:
            prefix = load_decay_of(g, A_log, dt_bias, start, rows, i_g, row, channel, 0, G, K, DECAY, RAW)
            suffix = tl.zeros([C, BK], tl.float32)
            s_qk += tl.where(row[:, None] == row[None, :], tl.sum(x * y, 1)[:, None], 0.0)
            span = 1
            for _ in range(0, LEVELS):
                up = tl.exp(prefix)
                key = tl.trans((y * tl.exp(suffix)).to(k.dtype.element_ty))
                pair = meets(row, row, span)
                query = (x * up).to(k.dtype.element_ty)
                s_qk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
                if ERASE != NONE:
                    query = (e * up).to(k.dtype.element_ty)
                    s_kk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
                prefix, suffix = double(prefix, suffix, row, span)
                span *= 2
        else:
            key = tl.trans(y.to(k.dtype.element_ty))
            s_qk += tl.dot(x.to(k.dtype.element_ty), key, input_precision="ieee")
            if ERASE != NONE:
                s_kk += tl.dot(e.to(k.dtype.element_ty), key, input_precision="ieee")
    if DECAY == SCALAR:
        here = load_decay_of(g, A_log, dt_bias, start, rows, i_g, row, row, 0, G, K, DECAY, RAW)
        factor = pair_decay(here, row)
        s_qk *= factor
        s_kk *= factor
    s_qk = tl.where(row[:, None] >= row[None, :], s_qk * scale, 0.0)
    s_kk = tl.where(row[:, None] > row[None, :], s_kk, 0.0)
    return s_qk, s_kk


@triton.jit
def unit_lower_inverse(t, row, LEVELS: tl.constexpr, SOLVER: tl.constexpr):
    """(I + T)^-1 for a strictly lower triangular T [C, C]."""
    a = tl.where(row[:, None] == row[None, :], 1.0, tl.where(meets(row, row, 1), -t, 0.0))
    span = 2
    for _ in range(1, LEVELS):
        joint = tl.where(meets(row, row, span), t, 0.0)
        a -= tl.dot(tl.dot(a, joint, input_precision=SOLVER), a, input_precision=SOLVER)
        span *= 2
    return a


@triton.jit
def load_state(h0, at, column, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, KB: tl.constexpr,
               BV: tl.constexpr, INITIAL: tl.constexpr):  # fmt: skip
    """The state [KP, BV] that starts at offset `at` of h0, in blocks of KB rows; 0 without `INITIAL`.

    In blocks, so that what a chunk multiplies it by need not be there for all of K at once.
    """
    state = ()
    for first in tl.static_range(0, KP, KB):
        channel = first + tl.arange(0, KB)
        if INITIAL:
            inside = (channel[:, None] < K) & (column[None, :] < V)
            block = tl.load(h0 + at + channel[:, None] * V + column[None, :], mask=inside, other=0.0).to(tl.float32)
        else:
            block = tl.zeros([KB, BV], tl.float32)
        state = state + (block,)
    return state


@triton.jit
def store_state(state, ht, at, column, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, KB: tl.constexpr):
    """The inverse of `load_state`."""
    for i in tl.static_range(KP // KB):
        channel = i * KB + tl.arange(0, KB)
        inside = (channel[:, None] < K) & (column[None, :] < V)
        tl.store(ht + at + channel[:, None] * V + column[None, :], state[i], mask=inside)


@triton.jit
def advance(state, score, inverse, q, k, v, g, b, w, A_log, dt_bias, start, rows, row, column, i_hv, scale, eps,
            H: tl.constexpr, HV: tl.constexpr, G: tl.constexpr, B: tl.constexpr, K: tl.constexpr, V: tl.constexpr,
            KP: tl.constexpr, KB: tl.constexpr, BV: tl.constexpr,
            DECAY: tl.constexpr, ERASE: tl.constexpr, WRITE: tl.constexpr,
            NORMALISE: tl.constexpr, RAW: tl.constexpr):  # fmt: skip
    """(outputs [C, BV], state after the chunk) from the state before it, Aqk and A [C, C] in the dtype of k.

    X = z - Ebar S0,   R = A X,   o = scale Qbar S0 + Aqk R,   SC = gamma_C S0 + Kt^T R
    """
    C: tl.constexpr = row.shape[0]
    i_h = i_hv // (HV // H)
    i_g = i_hv // (HV // G)
    if NORMALISE:
        q_norm = reciprocal_norms(q, start, rows, i_h, row, eps, H, K, KP, KB)
        k_norm = reciprocal_norms(k, start, rows, i_h, row, eps, H, K, KP, KB)
    x = tl.zeros([C, BV], tl.float32)
    out = tl.zeros([C, BV], tl.float32)
    for i in tl.static_range(KP // KB):
        channel = i * KB + tl.arange(0, KB)
        here = load_decay_of(g, A_log, dt_bias, start, rows, i_g, row, channel, 0, G, K, DECAY, RAW)
        up = tl.exp(sums(here, False))
        operand = state[i].to(v.dtype.element_ty)
        query = load_rows(q, start, rows, i_h, row, channel, H, K) * up
        if NORMALISE:
            query *= q_norm[:, None]
        out += tl.dot(query.to(q.dtype.element_ty), operand, input_precision="ieee")
        if ERASE != NONE:
            y = load_rows(k, start, rows, i_h, row, channel, H, K)
            if NORMALISE:
                y *= k_norm[:, None]
            e = y * load_gate(b, start, rows, i_hv // (HV // B), row, channel, B, K, ERASE)
            x += tl.dot((e * up).to(k.dtype.element_ty), operand, input_precision="ieee")
    x = load_writes(v, w, b, start, rows, i_hv, row, column, HV, B, V, ERASE, WRITE) - x
    if ERASE != NONE:
        x = tl.dot(inverse, x.to(v.dtype.element_ty), input_precision="ieee")
    write = x.to(v.dtype.element_ty)
    out = scale * out + tl.dot(score, write, input_precision="ieee")
    behind = ()
    for i in tl.static_range(KP // KB):
        channel = i * KB + tl.arange(0, KB)
        after = load_decay_of(g, A_log, dt_bias, start, rows, i_g, row, channel, 1, G, K, DECAY, RAW)
        y = load_rows(k, start, rows, i_h, row, channel, H, K) * tl.exp(sums(after, True))
        if NORMALISE:
            y *= k_norm[:, None]
        key = tl.trans(y.to(k.dtype.element_ty))
        here = load_decay_of(g, A_log, dt_bias, start, rows, i_g, row, channel, 0, G, K, DECAY, RAW)
        total = tl.exp(tl.sum(here, 0))[:, None]
        behind = behind + (state[i] * total + tl.dot(key, write, input_precision="ieee"),)
    return out, behind
