"""Device functions for one chunk of one value head: its scores, and its step of the state.

`chunk_scores` gives Aqk and -T, `advance` takes the state from before the chunk to behind it and gives the outputs
(`stages/__init__.py` has the notation, GDN-2 Eq. 36-44). Kernels differ in where they keep the values that pass between the two.
"""

import triton
import triton.language as tl

from ...arguments.ties import CHANNEL, NONE, SCALAR
from .decay import pair_decay, sums
from .dyadic import dyadic_scores, near_scores
from .inverse import blocks_to_tile, tile_to_blocks
from .rows import load_decay, load_gate, load_rows, load_writes, reciprocal_norms
from .sixteen import activated, exponentials, load_sixteen, negated, norms_of_rows, scaled

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
    """Aqk (lower, scaled) [C, C], and -T as `blockwise_inverse` takes it: near [C / 16, 16, 16] and far [C, C]. All fp32.

    -T is not to be read for a rule that erases nothing.
    """
    C: tl.constexpr = row.shape[0]
    i_h = i_hv // (HV // H)
    i_g = i_hv // (HV // G)
    i_b = i_hv // (HV // B)
    s_qk = tl.zeros([C, C], tl.float32)
    s_kk = tl.zeros([C, C], tl.float32)
    near_kk = tl.zeros([C // 16, 16, 16], tl.float32)
    if DECAY == CHANNEL:
        diagonal = tl.zeros([C // 16, 16, 16], tl.float32)
        level = tl.zeros([C // 16, 16, 8], tl.float32)
        near = (level, level, level, level)
        if NORMALISE:
            q_norms = norms_of_rows(q, start, rows, i_h, eps, H, K, C, BK)
            k_norms = norms_of_rows(k, start, rows, i_h, eps, H, K, C, BK)
    elif NORMALISE:
        q_norm = reciprocal_norms(q, start, rows, i_h, row, eps, H, K, K, BK)[:, None]
        k_norm = reciprocal_norms(k, start, rows, i_h, row, eps, H, K, K, BK)[:, None]
    for first in range(0, K, BK):
        channel = first + tl.arange(0, BK)
        if DECAY == CHANNEL:
            queries = load_sixteen(q, start, rows, i_h, channel, C, H, K, CHANNEL)
            keys = load_sixteen(k, start, rows, i_h, channel, C, H, K, CHANNEL)
            decays = load_sixteen(g, start, rows, i_g, channel, C, G, K, CHANNEL)
            if NORMALISE:
                queries = scaled(queries, q_norms)
                keys = scaled(keys, k_norms)
            if RAW:
                decays = activated(decays, A_log, dt_bias, rows, i_g, channel, C, K)
            erasers = ()
            if ERASE != NONE:
                erasers = negated(scaled(load_sixteen(b, start, rows, i_b, channel, C, B, K, ERASE), keys))
            diagonal, near, s_qk, s_kk, _, _, _, _ = dyadic_scores(
                diagonal,
                near,
                s_qk,
                s_kk,
                queries,
                erasers,
                keys,
                exponentials(decays),
                row,
                LEVELS,
                ERASE,
                k.dtype.element_ty,
            )
        else:
            query = load_rows(q, start, rows, i_h, row, channel, H, K)
            key = load_rows(k, start, rows, i_h, row, channel, H, K)
            if NORMALISE:
                query *= q_norm
                key *= k_norm
            transposed = tl.trans(key.to(k.dtype.element_ty))
            s_qk += tl.dot(query.to(k.dtype.element_ty), transposed, input_precision="ieee")
            if ERASE != NONE:
                eraser = -load_gate(b, start, rows, i_b, row, channel, B, K, ERASE) * key
                s_kk += tl.dot(eraser.to(k.dtype.element_ty), transposed, input_precision="ieee")
    if DECAY == CHANNEL:
        near_qk, near_kk = near_scores(diagonal, near)
        s_qk += blocks_to_tile(near_qk)
    elif DECAY == SCALAR:
        factor = pair_decay(load_decay(g, A_log, dt_bias, start, rows, i_g, row, row, 0, G, K, DECAY, RAW), row)
        s_qk *= factor
        s_kk *= factor
    if ERASE != NONE:
        if DECAY != CHANNEL:
            near_kk = tile_to_blocks(s_kk)
    s_qk = tl.where(row[:, None] >= row[None, :], s_qk * scale, 0.0)
    return s_qk, near_kk, s_kk


@triton.jit
def load_state(h0, at, column, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, KB: tl.constexpr,
               BV: tl.constexpr, INITIAL: tl.constexpr):  # fmt: skip
    """The state [KP, BV] that starts at offset `at` of h0, in blocks of KB rows; 0 without `INITIAL`.

    In blocks, so that the factors by which a chunk multiplies it need not be loaded for all of K at once.
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
        here = load_decay(g, A_log, dt_bias, start, rows, i_g, row, channel, 0, G, K, DECAY, RAW)
        up = tl.exp(sums(here, False))
        operand = state[i].to(v.dtype.element_ty)
        query = load_rows(q, start, rows, i_h, row, channel, H, K) * up
        if NORMALISE:
            query *= q_norm[:, None]
        out += tl.dot(query.to(q.dtype.element_ty), operand, input_precision="ieee")
        if ERASE != NONE:
            key = load_rows(k, start, rows, i_h, row, channel, H, K)
            if NORMALISE:
                key *= k_norm[:, None]
            erase = key * load_gate(b, start, rows, i_hv // (HV // B), row, channel, B, K, ERASE)
            x += tl.dot((erase * up).to(k.dtype.element_ty), operand, input_precision="ieee")
    value, gate = load_writes(v, w, b, start, rows, i_hv, row, column, HV, B, V, ERASE, WRITE)
    x = gate * value - x
    if ERASE != NONE:
        x = tl.dot(inverse, x.to(v.dtype.element_ty), input_precision="ieee")
    write = x.to(v.dtype.element_ty)
    out = scale * out + tl.dot(score, write, input_precision="ieee")
    behind = ()
    for i in tl.static_range(KP // KB):
        channel = i * KB + tl.arange(0, KB)
        after = load_decay(g, A_log, dt_bias, start, rows, i_g, row, channel, 1, G, K, DECAY, RAW)
        key = load_rows(k, start, rows, i_h, row, channel, H, K) * tl.exp(sums(after, True))
        if NORMALISE:
            key *= k_norm[:, None]
        transposed = tl.trans(key.to(k.dtype.element_ty))
        here = load_decay(g, A_log, dt_bias, start, rows, i_g, row, channel, 0, G, K, DECAY, RAW)
        total = tl.exp(tl.sum(here, 0))[:, None]
        behind = behind + (state[i] * total + tl.dot(transposed, write, input_precision="ieee"),)
    return out, behind
