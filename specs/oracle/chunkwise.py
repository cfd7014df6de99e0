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
from . import stages
from .decay import decays
from .options import finish, prepare, stored_at
from .sequences import Groups, SequenceBatch, join, split
from .stages import Chunk


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


def chunkwise(problem: Problem, inputs: Inputs, chunk: int = 64, numbers: Float64 = FLOAT64) -> Chunkwise:
    """Outputs, all gradients and all intermediates, in chunks of `chunk` tokens.

    Needs a few times chunk^2 K floats per sequence and head. `numbers` may round where a kernel of this form does.
    """
    tensors, prepared = prepare(problem, inputs, numbers)
    groups = Groups.of(problem)
    batches = split(problem, prepared, numbers)
    dos = groups.take_tokens(problem, tensors["do"], numbers)
    dhts = groups.take_states(problem, tensors["dht"], numbers) if "dht" in tensors else [None] * len(batches)
    outs, lasts, gradients = [], [], []
    of_sequences: dict[int, tuple[Stages, ...]] = {}
    for group, part, do, dht in zip(groups.members, batches, dos, dhts, strict=True):
        o, last, gradient, found = _sweep(part, problem.effective_scale, do, dht, chunk, numbers)
        outs.append(o)
        lasts.append(last)
        gradients.append(gradient)
        for slot, sequence in enumerate(group):
            of_sequences[sequence] = tuple(_of_sequence(one, slot) for one in found)
    outputs = {"o": numbers.at(stored_at("o"), groups.give_tokens(problem, outs, numbers))}
    if problem.final_state:
        outputs["ht"] = numbers.at(stored_at("ht"), groups.give_states(problem, lasts, numbers))
    outputs |= finish(problem, tensors, prepared, join(problem, gradients, numbers), numbers)
    return Chunkwise(outputs=outputs, stages=tuple(of_sequences[i] for i in sorted(of_sequences)))


def _sweep(
    batch: SequenceBatch, scale: float, do: np.ndarray, dht: np.ndarray | None, chunk: int, numbers: Float64
) -> tuple[np.ndarray, np.ndarray, SequenceBatch, list[Stages]]:
    """(o, last state, gradients, stages with a leading sequence axis) of one group of sequences."""
    if batch.g is not None:
        batch = replace(batch, g=numbers.at("exponent", batch.g))
    spans = [slice(start, start + chunk) for start in range(0, batch.tokens, chunk)]
    chunks = [_cut(batch, span) for span in spans]
    S, forward = batch.S0, []
    for one in chunks:
        found, S = _forward(one, scale, S, numbers)
        forward.append(found)
    last, dS = S, np.zeros_like(S) if dht is None else dht
    gradients, everything = [], []
    for one, span, found in zip(reversed(chunks), reversed(spans), reversed(forward), strict=True):
        do_here = do[..., span, :, :].swapaxes(-2, -3)
        gradient, backward, before = _backward(one, scale, found, do_here, dS, numbers)
        gradients.insert(0, gradient)
        everything.insert(0, Stages(**found, **backward))
        dS = before
    like = {"q": batch.q, "k": batch.k, "v": batch.v, "g": batch.k, "b": batch.k, "w": batch.v}
    joined = {name: _whole([gradient[name] for gradient in gradients], empty) for name, empty in like.items()}
    o = _whole([found["o"] for found in forward], batch.v)
    return o, last, SequenceBatch(**joined, S0=dS), everything


def _forward(chunk: Chunk, scale: float, S: np.ndarray, numbers: Float64) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """(forward fields of `Stages`, the state at the chunk's end)."""
    Aqk, T, A = stages.scores(chunk, scale, numbers)
    assert T is not None and A is not None  # an absent erase gate is one of zeros here
    given = stages.decayed(chunk, numbers)
    X, R, after = stages.writes(given, A, stages.written(chunk), S, numbers)
    o = stages.output(given.queries, Aqk, S, R, scale, numbers)
    return {"Aqk": Aqk, "T": T, "A": A, "X": X, "R": R, "S": S, "o": o}, after


def _backward(
    chunk: Chunk, scale: float, forward: dict[str, np.ndarray], do: np.ndarray, dS: np.ndarray, numbers: Float64
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray], np.ndarray]:
    """(gradients of the inputs, backward fields of `Stages`, the gradient of the state at the chunk's start)."""
    S, R = forward["S"], forward["R"]
    given = stages.decayed(chunk, numbers)
    dR, dX, before = stages.state_grads(given, forward["Aqk"], forward["A"], do, dS, scale, numbers)
    dAqk, dT, dv, dw = stages.score_grads(chunk, R, do, dX, 1.0, numbers)
    dq, dk, dg, db = stages.input_grads(chunk, S, R, do, dX, dS, scale * dAqk, dT, scale, numbers)
    gradients = {"q": dq, "k": dk, "v": dv, "g": dg, "b": db, "w": dw}
    return gradients, {"dS": dS, "dR": dR, "dX": dX, "dAqk": dAqk, "dT": dT}, before


def _cut(batch: SequenceBatch, span: slice) -> Chunk:
    """The tokens of a span, heads before tokens; an absent gate becomes the value that does nothing."""

    def take(x: np.ndarray | None, like: np.ndarray, absent: float) -> np.ndarray:
        x = np.full((1, 1), absent) if x is None else x[..., span, :, :]
        return np.broadcast_to(x, like[..., span, :, :].shape).swapaxes(-2, -3)

    g = take(batch.g, batch.k, 0.0)
    return Chunk(
        q=take(batch.q, batch.q, 0.0),
        k=take(batch.k, batch.k, 0.0),
        v=take(batch.v, batch.v, 0.0),
        g=g,
        b=take(batch.b, batch.k, 0.0),
        w=take(batch.w, batch.v, 1.0),
        decay=decays(g),
    )


def _whole(parts: Sequence[np.ndarray], empty: np.ndarray) -> np.ndarray:
    """Chunks [..., HV, C, X] -> [..., T, HV, X]; `empty` where there are none."""
    return np.concatenate(parts, axis=-2).swapaxes(-2, -3) if parts else empty


def _of_sequence(stages: Stages, slot: int) -> Stages:
    return Stages(**{field.name: getattr(stages, field.name)[..., slot, :, :, :] for field in fields(stages)})
