"""The chunkwise WY form in float64, with every intermediate: the bridge from the token recurrence to the kernels.

Gated DeltaNet-2 (arXiv 2605.22791; backward: Appendix B), in the cancellation-free form that the kernels use.
Within a chunk of C tokens that starts from state S0, with Gamma_i the decay from the start to i and D_ij from j to i:

    e = b * k,  z = w * v,  Ebar = Gamma e,  Kt = (decay to the chunk's end) k
    T_ij = sum_c e_ic k_jc D_ijc  (i > j)        A = (I + T)^-1
    Aqk_ij = scale sum_c q_ic k_jc D_ijc  (i >= j)
    X = Z - Ebar S0        R = A X        O = scale (Gamma q) S0 + Aqk R        S_C = Gamma_C S0 + Kt^T R

and backward, from dO and dS (the gradient of S_C):

    dR = Aqk^T dO + Kt dS      dX = A^T dR      dAqk = tril(dO R^T)      dT = -stril(dX R^T)
    dS0 = scale (Gamma q)^T dO + Gamma_C dS - Ebar^T dX
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ..arithmetic.numbers import FLOAT64, Float64
from ..inputs.make import Inputs
from ..problem import Problem
from .decay import decays, gate_gradient
from .options import finish, prepare, stored_at
from .sequences import Groups, Lanes, join, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Stages:
    """Every intermediate of one chunk of C tokens, per value head; see the module's equations.

    Forward: Aqk, T, A [HV, C, C]; X, R, o [HV, C, V]; S [HV, K, V], the state at the chunk's start.
    Backward: dS [HV, K, V], the gradient of the state at the chunk's end; dR, dX [HV, C, V]; dAqk, dT [HV, C, C].
    """

    Aqk: np.ndarray
    T: np.ndarray
    A: np.ndarray
    X: np.ndarray
    R: np.ndarray
    S: np.ndarray
    o: np.ndarray
    dS: np.ndarray
    dR: np.ndarray
    dX: np.ndarray
    dAqk: np.ndarray
    dT: np.ndarray


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunkwise:
    """outputs: as of `recurrence.solve`. stages[i][c]: chunk c of sequence i; a sequence of no tokens has none."""

    outputs: dict[str, np.ndarray]
    stages: tuple[tuple[Stages, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Chunk:
    """Inputs of one chunk [..., C, K or V], gates at full width."""

    q: np.ndarray
    k: np.ndarray
    v: np.ndarray
    g: np.ndarray
    b: np.ndarray
    w: np.ndarray


def chunkwise(problem: Problem, inputs: Inputs, chunk: int = 64, numbers: Float64 = FLOAT64) -> Chunkwise:
    """Outputs, all gradients and all intermediates, in chunks of `chunk` tokens.

    Needs a few times chunk^2 K floats per sequence and head. `numbers` may round where a kernel of this form does.
    """
    tensors, prepared = prepare(problem, inputs, numbers)
    groups = Groups.of(problem)
    lanes = split(problem, prepared, numbers)
    dos = groups.take_tokens(problem, tensors["do"], numbers)
    dhts = groups.take_states(problem, tensors["dht"], numbers) if "dht" in tensors else [None] * len(lanes)
    outs, lasts, gradients = [], [], []
    stages: dict[int, tuple[Stages, ...]] = {}
    for group, part, do, dht in zip(groups.members, lanes, dos, dhts, strict=True):
        o, last, gradient, found = _sweep(part, problem.effective_scale, do, dht, chunk, numbers)
        outs.append(o)
        lasts.append(last)
        gradients.append(gradient)
        for slot, sequence in enumerate(group):
            stages[sequence] = tuple(_of_sequence(one, slot) for one in found)
    outputs = {"o": numbers.at(stored_at("o"), groups.give_tokens(problem, outs, numbers))}
    if problem.final_state:
        outputs["ht"] = numbers.at(stored_at("ht"), groups.give_states(problem, lasts, numbers))
    outputs |= finish(problem, tensors, prepared, join(problem, gradients, numbers), numbers)
    return Chunkwise(outputs=outputs, stages=tuple(stages[i] for i in sorted(stages)))


def _sweep(
    lanes: Lanes, scale: float, do: np.ndarray, dht: np.ndarray | None, chunk: int, numbers: Float64
) -> tuple[np.ndarray, np.ndarray, Lanes, list[Stages]]:
    """(o, last state, gradients, stages with a leading sequence axis) of one group of lanes."""
    if lanes.g is not None:
        lanes = replace(lanes, g=numbers.at("exponent", lanes.g))
    spans = [slice(start, start + chunk) for start in range(0, lanes.tokens, chunk)]
    chunks = [_cut(lanes, span) for span in spans]
    S, forward = lanes.S0, []
    for one in chunks:
        stages, S = _forward(one, scale, S, numbers)
        forward.append(stages)
    last, dS = S, np.zeros_like(S) if dht is None else dht
    gradients, stages = [], []
    for one, span, found in zip(reversed(chunks), reversed(spans), reversed(forward), strict=True):
        do_here = do[..., span, :, :].swapaxes(-2, -3)
        gradient, backward, before = _backward(one, scale, found, do_here, dS, numbers)
        gradients.insert(0, gradient)
        stages.insert(0, Stages(**found, **backward))
        dS = before
    like = {"q": lanes.q, "k": lanes.k, "v": lanes.v, "g": lanes.k, "b": lanes.k, "w": lanes.v}
    joined = {name: _whole([gradient[name] for gradient in gradients], empty) for name, empty in like.items()}
    o = _whole([found["o"] for found in forward], lanes.v)
    return o, last, Lanes(**joined, S0=dS), stages


def _forward(chunk: _Chunk, scale: float, S: np.ndarray, numbers: Float64) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(forward fields of `Stages`, the state at the chunk's end)."""
    at, matmul = numbers.at, numbers.matmul
    decay, e, z = decays(chunk.g), chunk.b * chunk.k, chunk.w * chunk.v
    keys, state = at("operand", decay.between * chunk.k[..., None, :, :]), at("operand", S)
    Aqk = at("operand", scale * matmul(keys, at("operand", chunk.q)[..., None])[..., 0])
    T = _below(matmul(keys, at("operand", e)[..., None])[..., 0])
    A = at("operand", _inverse(T, numbers))
    X = at("operand", z - matmul(at("operand", decay.prefix * e), state))
    R = at("operand", matmul(A, X))
    o = scale * matmul(at("operand", decay.prefix * chunk.q), state) + matmul(Aqk, R)
    after = at("state", decay.whole[..., None] * S + matmul(_transpose(at("operand", decay.suffix * chunk.k)), R))
    return {"Aqk": Aqk, "T": T, "A": A, "X": X, "R": R, "S": S, "o": o}, after


def _backward(
    chunk: _Chunk, scale: float, forward: dict[str, np.ndarray], do: np.ndarray, dS: np.ndarray, numbers: Float64
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """(gradients of the inputs, backward fields of `Stages`, the gradient of the state at the chunk's start)."""
    at, matmul = numbers.at, numbers.matmul
    decay, e = decays(chunk.g), chunk.b * chunk.k
    S, R, after = at("operand", forward["S"]), forward["R"], at("operand", dS)
    q_start = at("operand", scale * decay.prefix * chunk.q)
    e_start, k_end = at("operand", decay.prefix * e), at("operand", decay.suffix * chunk.k)
    dR = at("operand", matmul(_transpose(forward["Aqk"]), do) + matmul(k_end, after))
    dX = at("operand", matmul(_transpose(forward["A"]), dR))
    dAqk = at("operand", np.tril(matmul(do, _transpose(R))))
    dT = at("operand", -_below(matmul(dX, _transpose(R))))
    read = matmul(_transpose(q_start), do) - matmul(_transpose(e_start), dX)
    before = at("state", decay.whole[..., None] * dS + read)

    dq_start, de_start = matmul(do, _transpose(S)), -matmul(dX, _transpose(S))
    dk_end = matmul(R, _transpose(after))
    keys = at("operand", decay.between * chunk.k[..., None, :, :])
    # What each pair's gradient multiplies on the side of the later token, [..., i, j, K].
    later = at("product", scale * dAqk[..., None] * chunk.q[..., :, None, :])
    later = later + at("product", dT[..., None] * e[..., :, None, :])
    dq = scale * (decay.prefix * dq_start + matmul(dAqk[..., None, :], keys)[..., 0, :])
    de = decay.prefix * de_start + matmul(dT[..., None, :], keys)[..., 0, :]
    dk = decay.suffix * dk_end + (later * decay.between).sum(axis=-3) + de * chunk.b
    dg = gate_gradient(
        pairs=later * keys,
        into=dq_start * q_start + de_start * e_start,
        onward=dk_end * k_end,
        through=decay.whole * at("product", S * after).sum(axis=-1),
    )
    # A gate per head sums the last two over channels: a contraction like any other.
    db, dw = at("product", de * chunk.k), at("product", dX * chunk.v)
    gradients = {"q": dq, "k": dk, "v": dX * chunk.w, "g": at("gate", dg), "b": db, "w": dw}
    return gradients, {"dS": dS, "dR": dR, "dX": dX, "dAqk": dAqk, "dT": dT}, before


def _cut(lanes: Lanes, span: slice) -> _Chunk:
    """The tokens of a span, heads before tokens; an absent gate becomes the value that does nothing."""

    def take(x: np.ndarray | None, like: np.ndarray, absent: float) -> np.ndarray:
        x = np.full((1, 1), absent) if x is None else x[..., span, :, :]
        return np.broadcast_to(x, like[..., span, :, :].shape).swapaxes(-2, -3)

    return _Chunk(
        q=take(lanes.q, lanes.q, 0.0),
        k=take(lanes.k, lanes.k, 0.0),
        v=take(lanes.v, lanes.v, 0.0),
        g=take(lanes.g, lanes.k, 0.0),
        b=take(lanes.b, lanes.k, 0.0),
        w=take(lanes.w, lanes.v, 1.0),
    )


def _whole(parts: Sequence[np.ndarray], empty: np.ndarray) -> np.ndarray:
    """Chunks [..., HV, C, X] -> [..., T, HV, X]; `empty` where there are none."""
    return np.concatenate(parts, axis=-2).swapaxes(-2, -3) if parts else empty


def _of_sequence(stages: Stages, slot: int) -> Stages:
    return Stages(**{field.name: getattr(stages, field.name)[..., slot, :, :, :] for field in fields(stages)})


def _inverse(T: np.ndarray, numbers: Float64) -> np.ndarray:
    """(I + T)^-1 of a strictly lower triangular T [..., C, C], by forward substitution."""
    A = np.broadcast_to(np.eye(T.shape[-1]), T.shape).copy()
    for i in range(1, T.shape[-1]):
        A[..., i, :i] = -numbers.matmul(T[..., i, None, :i], A[..., :i, :i])[..., 0, :]
    return A


def _below(x: np.ndarray) -> np.ndarray:
    """The strictly lower triangle."""
    return np.tril(x, -1)


def _transpose(x: np.ndarray) -> np.ndarray:
    return x.swapaxes(-1, -2)
