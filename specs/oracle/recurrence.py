"""THE statement of the rule: the token recurrence and its reverse sweep, over any number system.

Per value head, with state S [K, V] (Gated DeltaNet-2, arXiv 2605.22791, Eq. 8-10):

    Sbar = Diag(exp g) S                  decay
    r    = w * v - Sbar^T (b * k)         the write: the new value less the value read at the erase key
    S    = Sbar + k r^T                   write
    o    = scale * S^T q                  the output sees the token's own write

The reverse sweep is derived by hand from these four lines; D [K, V] is the gradient of S. At g = -inf the gradient of g
is 0. Notation: leading "..." axes are copies, sequences and heads; `numbers.at` marks where an implementation may
round, and the reverse sweep rounds the adjoint of a quantity at the site of that quantity.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..arithmetic.numbers import FLOAT64, Array, Numbers
from ..inputs.make import Inputs
from ..problem import Problem
from .options import finish, prepare, stored_at
from .sequences import Groups, SequenceBatch, join, split


@dataclass(frozen=True, slots=True, kw_only=True)
class Trajectory:
    """The forward sweep of one group of sequences, kept for the reverse sweep.

    o [..., n, T, HV, V]. states: S after each token, each [..., n, HV, K, V]. r: the write of each token, each [..., n, HV, V].
    q, k, e, decay: scaled query, key, erase key b * k and exp(g) as they entered the contractions, [..., n, T, HV, K or 1]; e and
    decay are None where the rule has none.
    """

    o: Array
    states: list[Array]
    r: list[Array]
    q: Array
    k: Array
    e: Array | None
    decay: Array | None


def solve(problem: Problem, inputs: Inputs, numbers: Numbers = FLOAT64) -> dict[str, Array]:
    """Outputs and all gradients (o, ht, dq, dk, dv, dg, db, dw, dh0, dA_log, ddt_bias) in the layout of a call.

    `inputs` hold float64 arrays or arrays of `numbers`. Names of outputs that the problem does not have are absent. The arrays of
    `inputs` may all carry the same further leading axes: the problem is then solved once for each.
    """
    tensors, prepared = prepare(problem, inputs, numbers)
    batches = split(problem, prepared, numbers)
    trajectories = [forward_sweep(part, problem.effective_scale, numbers) for part in batches]
    groups = Groups.of(problem)
    outputs = _outputs(problem, groups, trajectories, batches, numbers)
    dos = groups.take_tokens(problem, tensors["do"], numbers)
    dhts = groups.take_states(problem, tensors["dht"], numbers) if "dht" in tensors else [None] * len(batches)
    gradients = [
        reverse_sweep(part, trajectory, problem.effective_scale, do, dht, numbers)
        for part, trajectory, do, dht in zip(batches, trajectories, dos, dhts, strict=True)
    ]
    return outputs | finish(problem, tensors, prepared, join(problem, gradients, numbers), numbers)


def respond(problem: Problem, inputs: Inputs, numbers: Numbers = FLOAT64) -> dict[str, Array]:
    """Only the outputs o and ht of `solve`, without touching the reverse sweep."""
    _, prepared = prepare(problem, inputs, numbers)
    batches = split(problem, prepared, numbers)
    trajectories = [forward_sweep(part, problem.effective_scale, numbers) for part in batches]
    return _outputs(problem, Groups.of(problem), trajectories, batches, numbers)


def forward_sweep(batch: SequenceBatch, scale: float, numbers: Numbers) -> Trajectory:
    """Run the rule over one group of sequences."""
    at = numbers.at
    q, k = at("operand", batch.q * numbers.constant(scale)), at("operand", batch.k)
    e = None if batch.b is None else at("operand", batch.k * batch.b)
    z = batch.v if batch.w is None else batch.v * batch.w
    decay = None if batch.g is None else at("gate", numbers.exp(at("exponent", batch.g)))
    S, o, states, rs = batch.S0, [], [], []
    for t in range(batch.tokens):
        if decay is not None:
            S = S * _rows(decay, t)
        r = z[..., t, :, :]
        if e is not None:
            r = r - _contract(_rows(e, t), at("operand", S), -2, numbers)
        r = at("operand", r)
        S = at("state", S + at("product", _rows(k, t) * r[..., None, :]))
        o.append(_contract(_rows(q, t), at("operand", S), -2, numbers))
        states.append(S)
        rs.append(r)
    # Without tokens, o is as empty as v.
    return Trajectory(o=_stack(o, batch.v, numbers), states=states, r=rs, q=q, k=k, e=e, decay=decay)


def reverse_sweep(
    batch: SequenceBatch, trajectory: Trajectory, scale: float, do: Array, dht: Array | None, numbers: Numbers
) -> SequenceBatch:
    """Gradients of a batch from those of o [..., n, T, HV, V] and of the last state [..., n, HV, K, V] (or None)."""
    at, path = numbers.at, trajectory
    D = numbers.zeros(batch.S0.shape) if dht is None else dht
    dqs, dks, des, dzs, dgs = [], [], [], [], []
    for t in reversed(range(batch.tokens)):
        before = path.states[t - 1] if t else batch.S0
        # o = S^T q
        do_t = do[..., t, :, None, :]
        dqs.append(_contract(at("operand", path.states[t]), do_t, -1, numbers))
        D = at("state", D + at("product", _rows(path.q, t) * do_t))
        # S = Sbar + k r^T
        operand = at("operand", D)
        dr = at("operand", _contract(operand, _rows(path.k, t), -2, numbers))
        dks.append(_contract(operand, path.r[t][..., None, :], -1, numbers))
        dzs.append(dr)
        # r = z - Sbar^T e
        if path.e is not None:
            Sbar = before if path.decay is None else before * _rows(path.decay, t)
            des.append(-_contract(at("operand", Sbar), dr[..., None, :], -1, numbers))
            D = at("state", D - at("product", _rows(path.e, t) * dr[..., None, :]))
        # Sbar = exp(g) S
        if path.decay is not None:
            through = _contract(at("operand", D), at("operand", before), -1, numbers)
            dgs.append(at("gate", through * path.decay[..., t, :, :]))
            D = D * _rows(path.decay, t)

    dqs, dks, des, dzs, dgs = (list(reversed(x)) for x in (dqs, dks, des, dzs, dgs))
    dz, de = _stack(dzs, batch.v, numbers), None if path.e is None else _stack(des, batch.k, numbers)
    dk = _stack(dks, batch.k, numbers)
    return SequenceBatch(
        q=_stack(dqs, batch.q, numbers) * numbers.constant(scale),
        k=dk if de is None or batch.b is None else dk + de * batch.b,
        v=dz if batch.w is None else dz * batch.w,
        g=None if batch.g is None else _stack(dgs, batch.k, numbers),
        # A gate per head sums these over channels: a contraction like any other.
        b=None if de is None else at("product", de * batch.k),
        w=None if batch.w is None else at("product", dz * batch.v),
        S0=D,
    )


def _rows(x: Array, t: int) -> Array:
    """Token t of [..., T, HV, K], to multiply the rows of a state: [..., HV, K, 1]."""
    return x[..., t, :, :, None]


def _contract(a: Array, b: Array, axis: int, numbers: Numbers) -> Array:
    return numbers.at("product", a * b).sum(axis=axis)


def _stack(rows: list[Array], empty: Array, numbers: Numbers) -> Array:
    """T arrays [..., n, HV, X] -> [..., n, T, HV, X]; `empty` where T is 0."""
    return numbers.concatenate([row[..., None, :, :] for row in rows], -3) if rows else empty


def _outputs(
    problem: Problem, groups: Groups, trajectories: list[Trajectory], batches: list[SequenceBatch], numbers: Numbers
) -> dict[str, Array]:
    o = groups.give_tokens(problem, [trajectory.o for trajectory in trajectories], numbers)
    outputs = {"o": numbers.at(stored_at("o"), o)}
    if problem.final_state:
        last = [path.states[-1] if path.states else part.S0 for path, part in zip(trajectories, batches, strict=True)]
        outputs["ht"] = numbers.at(stored_at("ht"), groups.give_states(problem, last, numbers))
    return outputs
