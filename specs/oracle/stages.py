"""Every stage of the chunkwise form by itself: what it must give for the very inputs it receives, in any number system.

`chunkwise` runs the whole pipeline in float64; here each stage stands alone, so that a kernel's stage can be judged on what
reached it, and a fault upstream is not blamed on it. The equations and letters are those of `chunkwise` (Gated DeltaNet-2,
arXiv 2605.22791, Eq. 36-44 and Appendix B). All arrays of a chunk have heads before tokens, [..., HV, C, X]; a decay, erase
or write gate that is one per head has a last axis of 1, and one that is absent is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arithmetic.numbers import Array, Float64, Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Inputs of one chunk of C tokens for every value head; a stage that does not read one of them leaves it None.

    q, k [..., HV, C, K]; v [..., HV, C, V]; g, b [..., HV, C, K or 1]; w [..., HV, C, V or 1], b itself where it is tied.
    """

    q: Array | None = None
    k: Array | None = None
    v: Array | None = None
    g: Array | None = None
    b: Array | None = None
    w: Array | None = None


class Factors(NamedTuple):
    """Decay within a chunk: from its start through a token, after a token to its end [..., HV, C, K or 1], and of all of it
    [..., HV, 1, K or 1]; between[i] [..., HV, i + 1, K or 1] is from after each token up to i through i."""

    prefix: Array
    suffix: Array
    whole: Array
    between: list[Array]


class Operands(NamedTuple):
    """What a walk multiplies, chunk by chunk: Qbar, -Ebar, A^T Kt [..., HV, C, K], Aqk A [..., HV, C, C], and the chunk's decay.

    erasers is None without an erase gate, where A is the identity. Where one scalar gate b erases and writes, Ebar has no b and
    A is A diag(b) instead.
    """

    queries: Array
    erasers: Array | None
    writers: Array
    pairs: Array
    total: Array


class WriteGrads(NamedTuple):
    dAqk: Array
    dT: Array
    dv: Array
    dw: Array


class ReadGrads(NamedTuple):
    """All per value head and channel, [..., HV, C, K]; db without the share of a tied write gate."""

    dq: Array
    dk: Array
    dg: Array
    db: Array | None


def factors(g: Array | None, tokens: int, numbers: Numbers) -> Factors:
    """Factors of a chunk from log-decays g; ones where there are none. Products of factors at most 1: nothing overflows."""
    one = numbers.array(np.ones((1, 1, 1)))
    if g is None:
        ones = numbers.array(np.ones((1, tokens, 1)))
        return Factors(ones, ones, one, [ones[..., : i + 1, :] for i in range(tokens)])
    decay = numbers.exp(g)
    unit = decay[..., :1, :] * 0.0 + one
    prefix, between = [decay[..., :1, :]], [unit]
    for i in range(1, tokens):
        here = decay[..., i : i + 1, :]
        prefix.append(prefix[-1] * here)
        between.append(numbers.concatenate([between[-1] * here, unit], -2))
    return Factors(numbers.concatenate(prefix, -2), between[-1], prefix[-1], between)


def scores(chunk: Chunk, scale: float, numbers: Numbers) -> tuple[Array, Array | None]:
    """(Aqk, A) [..., HV, C, C]: Aqk_ij = scale q_i . k_j D_ij (i >= j) and A = (I + T)^-1, T_ij = e_i . k_j D_ij (i > j).

    A is None without an erase gate.
    """
    q, k = _given(chunk.q, chunk.k)
    tokens = k.shape[-2]
    decay = factors(chunk.g, tokens, numbers)
    keys = [numbers.at("operand", between * k[..., : i + 1, :]) for i, between in enumerate(decay.between)]

    def meet(x: Array) -> list[Array]:
        x = numbers.at("operand", x)
        return [_contract(x[..., i : i + 1, :], keys[i], numbers) for i in range(tokens)]

    Aqk = [_pad(row * numbers.constant(scale), tokens, numbers) for row in meet(q)]
    if chunk.b is None:
        return numbers.at("operand", numbers.concatenate(Aqk, -2)), None
    T = [row[..., :-1] for row in meet(chunk.b * k)]
    return numbers.at("operand", numbers.concatenate(Aqk, -2)), numbers.at("operand", _inverse(T, numbers))


def writes(chunk: Chunk, A: Array | None, S: Array, numbers: Numbers) -> tuple[Array, Array]:
    """(R, the state at the chunk's end): X = z - Ebar S, R = A X, S_C = Gamma_C S + Kt^T R, z = w v."""
    k, v = _given(chunk.k, chunk.v)
    decay = factors(chunk.g, k.shape[-2], numbers)
    X = v if chunk.w is None else chunk.w * v
    if chunk.b is not None:
        keys = numbers.at("operand", decay.prefix * (chunk.b * k))
        X = numbers.at("operand", X - _matmul(keys, numbers.at("operand", S), numbers))
        X = _matmul(A, X, numbers)
    R = numbers.at("operand", X)
    keys = numbers.at("operand", decay.suffix * k)
    return R, numbers.at("state", _turn(decay.whole) * S + _matmul(_turn(keys), R, numbers))


def output(chunk: Chunk, Aqk: Array, S: Array, R: Array, scale: float, numbers: Numbers) -> Array:
    """o = scale (Gamma q) S + Aqk R."""
    (q,) = _given(chunk.q)
    queries = numbers.at("operand", factors(chunk.g, q.shape[-2], numbers).prefix * q)
    read = _matmul(queries, numbers.at("operand", S), numbers) * numbers.constant(scale)
    return read + _matmul(Aqk, R, numbers)


def operands(chunk: Chunk, scale: float, numbers: Numbers) -> Operands:
    """`Operands` of a chunk, whose b is also its write gate if it is one per head and chunk.w is b itself."""
    q, k = _given(chunk.q, chunk.k)
    decay = factors(chunk.g, k.shape[-2], numbers)
    Aqk, A = scores(chunk, scale, numbers)
    ones = k * 0.0 + numbers.array(np.ones((1, 1, 1)))
    queries = numbers.at("operand", decay.prefix * q)
    keys = numbers.at("operand", decay.suffix * k)
    total = decay.whole * ones[..., :1, :]
    if A is None or chunk.b is None:
        return Operands(queries, None, keys, Aqk, total)
    tied = chunk.w is not None
    erasers = -numbers.at("operand", decay.prefix * (k if tied else chunk.b * k))
    if tied:
        A = numbers.at("operand", A * _turn(chunk.b))
    writers = numbers.at("operand", _matmul(_turn(A), keys, numbers))
    return Operands(queries, erasers, writers, numbers.at("operand", _matmul(Aqk, A, numbers)), total)


def step(given: Operands, z: Array, S: Array, scale: float, numbers: Numbers) -> tuple[Array, Array]:
    """(o, the state at the end) from `Operands`: X = z - Ebar S, o = scale Qbar S + (Aqk A) X, S_C = Gamma_C S + W^T X."""
    operand = numbers.at("operand", S)
    X = z if given.erasers is None else z + _matmul(given.erasers, operand, numbers)
    X = numbers.at("operand", X)
    o = _matmul(given.queries, operand, numbers) * numbers.constant(scale) + _matmul(given.pairs, X, numbers)
    return o, numbers.at("state", _turn(given.total) * S + _matmul(_turn(given.writers), X, numbers))


def state_grads(
    chunk: Chunk, Aqk: Array, A: Array | None, do: Array, dS: Array, scale: float, numbers: Numbers
) -> tuple[Array, Array]:
    """(dX, dS0): dR = Aqk^T do + Kt dS, dX = A^T dR, dS0 = scale (Gamma q)^T do + Gamma_C dS - Ebar^T dX."""
    q, k = _given(chunk.q, chunk.k)
    decay, operand = factors(chunk.g, k.shape[-2], numbers), numbers.at("operand", dS)
    dX = _matmul(_turn(Aqk), do, numbers) + _matmul(numbers.at("operand", decay.suffix * k), operand, numbers)
    queries = numbers.at("operand", decay.prefix * q)
    before = _turn(decay.whole) * dS + _matmul(_turn(queries), do, numbers) * numbers.constant(scale)
    if chunk.b is not None:
        dX = numbers.at("operand", _matmul(_turn(A), numbers.at("operand", dX), numbers))
        keys = numbers.at("operand", decay.prefix * (chunk.b * k))
        before = before - _matmul(_turn(keys), dX, numbers)
    return dX, numbers.at("state", before)


def score_grads(chunk: Chunk, R: Array, do: Array, dX: Array, scale: float, numbers: Numbers) -> WriteGrads:
    """dAqk = scale tril(do R^T), dT = -stril(dX R^T), dv = w dX, dw = v dX (per channel)."""
    (v,) = _given(chunk.v)
    seen = _matmul(do, _turn(R), numbers) * numbers.constant(scale)
    erased = -_matmul(dX, _turn(R), numbers)
    dv = dX if chunk.w is None else chunk.w * dX
    return WriteGrads(lower(seen, 0, numbers), lower(erased, -1, numbers), dv, numbers.at("product", dX * v))


def input_grads(
    chunk: Chunk,
    S: Array,
    R: Array,
    do: Array,
    dX: Array,
    dS: Array,
    dAqk: Array,
    dT: Array | None,
    scale: float,
    numbers: Numbers,
) -> ReadGrads:
    """Gradients of q, k, g and b; dAqk holds the scale. dg_t sums what decays across token t, every pair once:

    dg_t = sum over i >= t > j of k_j D_ij (dAqk_ij q_i + dT_ij e_i), over i >= t of q_i . dq_i and e_i . de_i through S,
    over j < t of k_j . dk_j through dS, and Gamma_C S . dS.
    """
    q, k = _given(chunk.q, chunk.k)
    tokens = k.shape[-2]
    decay = factors(chunk.g, tokens, numbers)
    e = None if chunk.b is None else chunk.b * k
    dq = decay.prefix * (_matmul(do, _turn(S), numbers) * numbers.constant(scale))
    de = None if e is None else decay.prefix * -_matmul(dX, _turn(S), numbers)
    dk = decay.suffix * _matmul(R, _turn(dS), numbers)
    into = q * dq if e is None or de is None else q * dq + e * de
    onward = k * dk
    through = decay.whole * numbers.at("product", S * dS).sum(axis=-1)[..., None, :]
    rows_q, rows_e, pairs, columns = [], [], [], []
    for i in range(tokens):
        keys = numbers.at("operand", decay.between[i] * k[..., : i + 1, :])
        weight = dAqk[..., i, : i + 1, None]
        later = numbers.at("product", weight * q[..., i : i + 1, :])
        rows_q.append(numbers.at("product", weight * keys).sum(axis=-2)[..., None, :])
        if e is not None and dT is not None:
            weight = dT[..., i, : i + 1, None]
            later = later + numbers.at("product", weight * e[..., i : i + 1, :])
            rows_e.append(numbers.at("product", weight * keys).sum(axis=-2)[..., None, :])
        pairs.append(_extend(later * keys, tokens, numbers))
        columns.append(_extend(later * decay.between[i], tokens, numbers))
    dq = dq + numbers.concatenate(rows_q, -2)
    dk = dk + _total(columns)
    db = None
    if de is not None and chunk.b is not None:
        de = de + numbers.concatenate(rows_e, -2)
        dk = dk + de * chunk.b
        db = numbers.at("product", de * k)
    dg = [
        _total([pair[..., :t, :].sum(axis=-2) for pair in pairs[t:]])[..., None, :]
        + into[..., t:, :].sum(axis=-2)[..., None, :]
        + onward[..., :t, :].sum(axis=-2)[..., None, :]
        + through
        for t in range(tokens)
    ]
    return ReadGrads(dq, dk, numbers.at("gate", numbers.concatenate(dg, -2)), db)


def tokens(chunk: Chunk, S: Array, scale: float, numbers: Numbers) -> tuple[Array, Array]:
    """(o, the last state) of the token recurrence over one sequence (Eq. 8-10)."""
    q, k, v = _given(chunk.q, chunk.k, chunk.v)
    outs = []
    for t in range(k.shape[-2]):
        key = k[..., t, :, None]
        if chunk.g is not None:
            S = S * numbers.at("gate", numbers.exp(chunk.g[..., t, :, None]))
        r = v[..., t, :] if chunk.w is None else chunk.w[..., t, :] * v[..., t, :]
        if chunk.b is not None:
            e = numbers.at("operand", chunk.b[..., t, :, None] * key)
            r = r - numbers.at("product", e * S).sum(axis=-2)
        S = numbers.at("state", S + numbers.at("product", key * numbers.at("operand", r)[..., None, :]))
        out = numbers.at("product", q[..., t, :, None] * S).sum(axis=-2)
        outs.append((out * numbers.constant(scale))[..., None, :])
    return (numbers.concatenate(outs, -2) if outs else v), S


def _given(*arrays: Array | None) -> list[Array]:
    if any(array is None for array in arrays):
        raise ValueError("a stage got a chunk without a tensor that it reads")
    return list(arrays)


def _matmul(a: Array, b: Array, numbers: Numbers) -> Array:
    return numbers.matmul(a, b) if isinstance(numbers, Float64) else a @ b


def _contract(x: Array, keys: Array, numbers: Numbers) -> Array:
    """[..., 1, K] with [..., n, K] -> [..., 1, n]."""
    return numbers.at("product", x * keys).sum(axis=-1)[..., None, :]


def _turn(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _pad(row: Array, width: int, numbers: Numbers) -> Array:
    """Zeros to the right of [..., 1, n]."""
    if row.shape[-1] == width:
        return row
    return numbers.concatenate([row, numbers.zeros((*row.shape[:-1], width - row.shape[-1]))], -1)


def _extend(x: Array, length: int, numbers: Numbers) -> Array:
    """Zeros below [..., n, K]."""
    if x.shape[-2] == length:
        return x
    return numbers.concatenate([x, numbers.zeros((*x.shape[:-2], length - x.shape[-2], x.shape[-1]))], -2)


def lower(x: Array, diagonal: int, numbers: Numbers) -> Array:
    """The lower triangle of [..., C, C], with its diagonal (0) or without (-1)."""
    rows = [x[..., i : i + 1, : i + 1 + diagonal] for i in range(x.shape[-1])]
    return numbers.concatenate([_pad(row, x.shape[-1], numbers) for row in rows], -2)


def _inverse(T: list[Array], numbers: Numbers) -> Array:
    """(I + T)^-1 from the rows of a strictly lower triangular T, [..., 1, i] each, by forward substitution."""
    size = len(T)
    unit = numbers.array(np.eye(size)[None])
    rows = [T[0][..., :1, :].sum(axis=-1)[..., None] + unit[..., :1, :]]
    for i in range(1, size):
        known = numbers.concatenate(rows, -2)
        rows.append(-_matmul(T[i], known, numbers) + unit[..., i : i + 1, :])
    return numbers.concatenate(rows, -2)


def _total(arrays: list[Array]) -> Array:
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total
