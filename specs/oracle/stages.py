"""Every stage of the chunkwise form by itself: its right results for the very inputs it receives, in any number system.

`chunkwise` runs them one after the other; here each stands alone, so that a kernel's stage can be judged on its own inputs, and a
fault upstream is not blamed on it. The equations and letters are those of `chunkwise` (Gated DeltaNet-2, arXiv 2605.22791, Eq.
36-44 and Appendix B). All arrays of a chunk have heads before tokens, [..., HV, C, X]; a decay, erase or write gate that is one
per head has a last axis of 1, and one that is absent is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from ..arithmetic.numbers import Array, Float64, Numbers
from .decay import Decay, decays, gate_gradient


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """Inputs of one chunk of C tokens for every value head; a stage that does not read one of them leaves it None.

    q, k [..., HV, C, K]; v [..., HV, C, V]; g, b [..., HV, C, K or 1]; w [..., HV, C, V or 1], b itself where it is tied.
    decay: of g, where several stages share it; otherwise each makes its own.
    """

    q: Array | None = None
    k: Array | None = None
    v: Array | None = None
    g: Array | None = None
    b: Array | None = None
    w: Array | None = None
    decay: Decay | None = None


class Scores(NamedTuple):
    """[..., HV, C, C] each; T and A are None without an erase gate."""

    Aqk: Array
    T: Array | None
    A: Array | None


class Writes(NamedTuple):
    """X, R [..., HV, C, V]; after: the state at the chunk's end."""

    X: Array
    R: Array
    after: Array


class Decayed(NamedTuple):
    """Qbar, -Ebar, Kt [..., HV, C, K], and the chunk's decay [..., HV, K]; erasers is None without an erase gate."""

    queries: Array
    erasers: Array | None
    keys: Array
    total: Array


class Operands(NamedTuple):
    """The operands of a walk, chunk by chunk: Qbar, -Ebar, A^T Kt [..., HV, C, K], Aqk A [..., HV, C, C], and the chunk's decay.

    erasers is None without an erase gate, where A is the identity, queries and pairs where no outputs are read. Where one
    scalar gate b erases and writes, Ebar has no b and A is A diag(b) instead.
    """

    queries: Array | None
    erasers: Array | None
    writers: Array
    pairs: Array | None
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


def scores(chunk: Chunk, scale: float, numbers: Numbers) -> Scores:
    """Aqk_ij = scale q_i . k_j D_ij (i >= j), T_ij = e_i . k_j D_ij (i > j) and A = (I + T)^-1."""
    q, k = _given(chunk.q, chunk.k)
    keys = _keys(k, _decay(chunk, k, numbers), numbers)
    Aqk = numbers.at("operand", _meet(q, keys, numbers) * numbers.constant(scale))
    if chunk.b is None:
        return Scores(Aqk, None, None)
    T = lower(_meet(chunk.b * k, keys, numbers), -1, numbers)
    return Scores(Aqk, T, numbers.at("operand", _inverse(T, numbers)))


def decayed(chunk: Chunk, numbers: Numbers) -> Decayed:
    """Qbar = Gamma q, -Ebar = -Gamma b k, Kt = (Gamma_C / Gamma) k and Gamma_C."""
    q, k = _given(chunk.q, chunk.k)
    decay = _decay(chunk, k, numbers)
    return Decayed(
        queries=numbers.at("operand", decay.prefix * q),
        erasers=None if chunk.b is None else -numbers.at("operand", decay.prefix * (chunk.b * k)),
        keys=numbers.at("operand", decay.suffix * k),
        total=decay.total,
    )


def written(chunk: Chunk) -> Array:
    """z = w v."""
    (v,) = _given(chunk.v)
    return v if chunk.w is None else chunk.w * v


def writes(given: Decayed, A: Array | None, z: Array, S: Array, numbers: Numbers) -> Writes:
    """X = z - Ebar S, R = A X, S_C = Gamma_C S + Kt^T R."""
    X = R = z
    if given.erasers is not None:
        X = numbers.at("operand", X + _matmul(given.erasers, numbers.at("operand", S), numbers))
        R = _matmul(A, X, numbers)
    R = numbers.at("operand", R)
    return Writes(X, R, numbers.at("state", given.total[..., None] * S + _matmul(_turn(given.keys), R, numbers)))


def output(queries: Array, Aqk: Array, S: Array, R: Array, scale: float, numbers: Numbers) -> Array:
    """o = scale Qbar S + Aqk R."""
    read = _matmul(queries, numbers.at("operand", S), numbers) * numbers.constant(scale)
    return read + _matmul(Aqk, R, numbers)


def operands(chunk: Chunk, scale: float, numbers: Numbers) -> Operands:
    """`Operands` of a chunk, whose b is also its write gate if it is one per head and chunk.w is b itself."""
    q, k = _given(chunk.q, chunk.k)
    decay = _decay(chunk, k, numbers)
    Aqk, _, A = scores(chunk, scale, numbers)
    ones = k * 0.0 + numbers.array(np.ones((1, 1, 1)))
    queries = numbers.at("operand", decay.prefix * q)
    keys = numbers.at("operand", decay.suffix * k)
    total = decay.total[..., None, :] * ones[..., :1, :]
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
    queries, pairs = _given(given.queries, given.pairs)
    X, after = carried(given, z, S, numbers)
    read = _matmul(queries, numbers.at("operand", S), numbers) * numbers.constant(scale)
    return read + _matmul(pairs, X, numbers), after


def carried(given: Operands, z: Array, S: Array, numbers: Numbers) -> tuple[Array, Array]:
    """(X, the state at the end), as `step`, for any number of columns of z and S."""
    X = z if given.erasers is None else z + _matmul(given.erasers, numbers.at("operand", S), numbers)
    X = numbers.at("operand", X)
    return X, numbers.at("state", _turn(given.total) * S + _matmul(_turn(given.writers), X, numbers))


def joined(maps: Array, S: Array, numbers: Numbers) -> Array:
    """M S + B of [B | M], or of [B | the diagonal of M]."""
    width = S.shape[-1]
    B, M = maps[..., :width], maps[..., width:]
    return numbers.at("state", (M * S if M.shape[-1] == 1 else _matmul(M, S, numbers)) + B)


class StateGrads(NamedTuple):
    """dR, dX [..., HV, C, V]; before: the gradient of the state at the chunk's start."""

    dR: Array
    dX: Array
    before: Array


def state_grads(
    given: Decayed, Aqk: Array, A: Array | None, do: Array, dS: Array, scale: float, numbers: Numbers
) -> StateGrads:
    """dR = Aqk^T do + Kt dS, dX = A^T dR, dS0 = scale Qbar^T do + Gamma_C dS - Ebar^T dX."""
    dR = _matmul(_turn(Aqk), do, numbers) + _matmul(given.keys, numbers.at("operand", dS), numbers)
    dX = dR = numbers.at("operand", dR)
    before = given.total[..., None] * dS + _matmul(_turn(given.queries), do, numbers) * numbers.constant(scale)
    if given.erasers is not None:
        dX = numbers.at("operand", _matmul(_turn(A), dR, numbers))
        before = before + _matmul(_turn(given.erasers), dX, numbers)
    return StateGrads(dR, dX, numbers.at("state", before))


def score_grads(chunk: Chunk, R: Array, do: Array, dX: Array, scale: float, numbers: Numbers) -> WriteGrads:
    """dAqk = scale tril(do R^T), dT = -stril(dX R^T), dv = w dX, dw = v dX (per channel)."""
    (v,) = _given(chunk.v)
    seen = _matmul(do, _turn(R), numbers) * numbers.constant(scale)
    erased = -_matmul(dX, _turn(R), numbers)
    dAqk, dT = (numbers.at("operand", lower(x, diagonal, numbers)) for x, diagonal in ((seen, 0), (erased, -1)))
    dv = dX if chunk.w is None else chunk.w * dX
    return WriteGrads(dAqk, dT, dv, numbers.at("product", dX * v))


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
    """Gradients of q, k, g and b; dAqk holds the scale. dg_t sums the terms that decay across token t, every pair once:

    dg_t = sum over i >= t > j of k_j D_ij (dAqk_ij q_i + dT_ij e_i), over i >= t of q_i . dq_i and e_i . de_i through S,
    over j < t of k_j . dk_j through dS, and Gamma_C S . dS.
    """
    q, k = _given(chunk.q, chunk.k)
    at, decay = numbers.at, _decay(chunk, k, numbers)
    keys = _keys(k, decay, numbers)
    S, dS = at("operand", S), at("operand", dS)
    dq_start = _matmul(do, _turn(S), numbers) * numbers.constant(scale)
    dk_end = _matmul(R, _turn(dS), numbers)
    dq = decay.prefix * dq_start + _pull(dAqk, keys, numbers)
    # The factor of each pair's gradient on the side of the later token, [..., i, j, K].
    later = at("product", dAqk[..., None] * q[..., :, None, :])
    from_past = dq_start * at("operand", decay.prefix * q)
    de = db = None
    if chunk.b is not None and dT is not None:
        e = chunk.b * k
        de_start = -_matmul(dX, _turn(S), numbers)
        de = decay.prefix * de_start + _pull(dT, keys, numbers)
        later = later + at("product", dT[..., None] * e[..., :, None, :])
        from_past = from_past + de_start * at("operand", decay.prefix * e)
        db = at("product", de * k)
    dk = decay.suffix * dk_end + (later * decay.between).sum(axis=-3)
    if de is not None:
        dk = dk + de * chunk.b
    dg = gate_gradient(
        pairs=later * keys,
        from_past=from_past,
        to_future=dk_end * at("operand", decay.suffix * k),
        through_state=decay.total * at("product", S * dS).sum(axis=-1),
        numbers=numbers,
    )
    return ReadGrads(dq, dk, at("gate", dg), db)


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


def _decay(chunk: Chunk, k: Array, numbers: Numbers) -> Decay:
    """The factors of a chunk; those of no decay where it has none."""
    if chunk.decay is not None:
        return chunk.decay
    if chunk.g is not None:
        return decays(chunk.g, numbers)
    ones, triangle = numbers.array(np.ones((1, k.shape[-2], 1))), np.tri(k.shape[-2])[None, :, :, None]
    return Decay(prefix=ones, suffix=ones, between=numbers.array(triangle), total=ones[..., 0, :])


def _keys(k: Array, decay: Decay, numbers: Numbers) -> Array:
    """D_ij k_j, [..., i, j, K]: the keys that the later token i meets."""
    return numbers.at("operand", decay.between * k[..., None, :, :])


def _meet(x: Array, keys: Array, numbers: Numbers) -> Array:
    """x [..., C, K] with the keys that each of its tokens meets -> [..., C, C]."""
    x = numbers.at("operand", x)
    if isinstance(numbers, Float64):
        return numbers.matmul(keys, x[..., None])[..., 0]
    return numbers.at("product", keys * x[..., :, None, :]).sum(axis=-1)


def _pull(weights: Array, keys: Array, numbers: Numbers) -> Array:
    """The adjoint of `_meet`: weights [..., C, C] -> [..., C, K]."""
    if isinstance(numbers, Float64):
        return numbers.matmul(weights[..., None, :], keys)[..., 0, :]
    return numbers.at("product", weights[..., None] * keys).sum(axis=-2)


def _turn(x: Array) -> Array:
    return x.swapaxes(-1, -2)


def _pad(row: Array, width: int, numbers: Numbers) -> Array:
    """Zeros to the right of [..., 1, n]."""
    if row.shape[-1] == width:
        return row
    return numbers.concatenate([row, numbers.zeros((*row.shape[:-1], width - row.shape[-1]))], -1)


def lower(x: Array, diagonal: int, numbers: Numbers) -> Array:
    """The lower triangle of [..., C, C], with its diagonal (0) or without (-1)."""
    if isinstance(numbers, Float64):
        return np.tril(x, diagonal)
    rows = [x[..., i : i + 1, : i + 1 + diagonal] for i in range(x.shape[-1])]
    return numbers.concatenate([_pad(row, x.shape[-1], numbers) for row in rows], -2)


def _inverse(T: Array, numbers: Numbers) -> Array:
    """(I + T)^-1 of a strictly lower triangular T [..., C, C], by forward substitution."""
    size = T.shape[-1]
    if isinstance(numbers, Float64):
        A = np.broadcast_to(np.eye(size), T.shape).copy()
        for i in range(1, size):
            A[..., i, :i] = -numbers.matmul(T[..., i, None, :i], A[..., :i, :i])[..., 0, :]
        return A
    unit = numbers.array(np.eye(size)[None])
    rows = [T[..., :1, :] * 0.0 + unit[..., :1, :]]
    for i in range(1, size):
        known = numbers.concatenate(rows, -2)
        rows.append(-_matmul(T[..., i : i + 1, :i], known, numbers) + unit[..., i : i + 1, :])
    return numbers.concatenate(rows, -2)
