"""From the layout of a call to the layout of the rule, and back.

A call packs sequences, shares key heads among value heads and ties gates. The rule wants none of it. `split` undoes all of it;
`join` is its adjoint, so that a shared or tied tensor receives the sum of its gradients.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..arithmetic.numbers import Array, Numbers
from ..problem import Problem


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceBatch:
    """n sequences of one length T, for every value head, as the rule takes them. Or the gradients of these.

    q, k [..., n, T, HV, K]; v [..., n, T, HV, V]; S0 [..., n, HV, K, V] (zeros where the call has no initial state).
    g, b: None, [..., n, T, HV, K], or [..., n, T, HV, 1] for a scalar gate; in a gradient always K wide.
    w: None, [..., n, T, HV, V], or [..., n, T, HV, 1] for a scalar or tied gate; in a gradient always V wide.
    Leading axes "..." run independent copies of the problem.
    """

    q: Array
    k: Array
    v: Array
    g: Array | None
    b: Array | None
    w: Array | None
    S0: Array

    @property
    def tokens(self) -> int:
        return self.q.shape[-3]


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The sequences that go through the rule together: members[i] are the sequences of group i, all of one length."""

    members: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, problem: Problem) -> Groups:
        by_length: dict[int, list[int]] = {}
        for index, (_, _, length) in enumerate(problem.sequences):
            by_length.setdefault(length, []).append(index)
        return cls(members=tuple(tuple(indices) for indices in by_length.values()))

    def take_tokens(self, problem: Problem, x: Array, numbers: Numbers) -> list[Array]:
        """[..., B, T, heads, channels] -> per group [..., n, T of the group, heads, channels]."""
        if problem.lengths is None:
            return [x]
        spans = [x[..., start : start + length, :, :] for _, start, length in problem.sequences]
        return [numbers.concatenate([spans[i] for i in group], -4) for group in self.members]

    def give_tokens(self, problem: Problem, parts: Sequence[Array], numbers: Numbers) -> Array:
        """The inverse of `take_tokens`."""
        if problem.lengths is None:
            return parts[0]
        return numbers.concatenate(self._in_order(parts), -3)

    def take_states(self, problem: Problem, x: Array, numbers: Numbers) -> list[Array]:
        """[..., N, HV, K, V] -> per group [..., n, HV, K, V]."""
        if problem.lengths is None:
            return [x]
        return [numbers.concatenate([x[..., i : i + 1, :, :, :] for i in group], -4) for group in self.members]

    def give_states(self, problem: Problem, parts: Sequence[Array], numbers: Numbers) -> Array:
        """The inverse of `take_states`."""
        if problem.lengths is None:
            return parts[0]
        return numbers.concatenate(self._in_order(parts), -4)

    def _in_order(self, parts: Sequence[Array]) -> list[Array]:
        place = {
            sequence: part[..., slot : slot + 1, :, :, :]
            for group, part in zip(self.members, parts, strict=True)
            for slot, sequence in enumerate(group)
        }
        return [place[sequence] for sequence in sorted(place)]


def split(problem: Problem, tensors: dict[str, Array], numbers: Numbers) -> list[SequenceBatch]:
    """The batch of every group, from q, k, v, g, b, w, h0 in user layout, scalar gates with a last axis of 1."""
    groups = Groups.of(problem)
    per_head = {name: _share(x, problem.HV, numbers) for name, x in tensors.items() if name != "h0"}
    if "w" not in per_head and "b" in per_head:
        per_head["w"] = per_head["b"]
    parts = {name: groups.take_tokens(problem, x, numbers) for name, x in per_head.items()}
    if "h0" in tensors:
        states = groups.take_states(problem, tensors["h0"], numbers)
    else:
        states = [numbers.zeros((*q.shape[:-3], problem.HV, problem.K, problem.V)) for q in parts["q"]]
    return [
        SequenceBatch(**{name: parts[name][i] if name in parts else None for name in "qkvgbw"}, S0=states[i])
        for i in range(len(groups.members))
    ]


def join(problem: Problem, gradients: Sequence[SequenceBatch], numbers: Numbers) -> dict[str, Array]:
    """Gradients of q, k, v, g, b, w, h0 in user layout (scalar gates with a last axis of 1) from those of the batches."""
    groups, rule = Groups.of(problem), problem.rule
    tied_to_scalar = {"g": rule.decay, "b": rule.erase, "w": rule.write}
    heads = {"q": problem.H, "k": problem.H, "g": problem.gate_rows, "b": problem.gate_rows}
    joined: dict[str, Array] = {}
    for name in ("q", "k", "v", *rule.gates):
        parts = [getattr(batch, name) for batch in gradients]
        if tied_to_scalar.get(name) == "scalar":
            parts = [part.sum(axis=-1)[..., None] for part in parts]
        if name == "b" and rule.write == "tied":
            written = [batch.w.sum(axis=-1)[..., None] for batch in gradients if batch.w is not None]
            parts = [part + other for part, other in zip(parts, written, strict=True)]
        joined[name] = _gather(groups.give_tokens(problem, parts, numbers), heads.get(name, problem.HV))
    if problem.initial_state:
        joined["h0"] = groups.give_states(problem, [batch.S0 for batch in gradients], numbers)
    return joined


def _share(x: Array, value_heads: int, numbers: Numbers) -> Array:
    """[..., heads, channels] -> [..., value_heads, channels]: value head j reads head j // (value_heads / heads)."""
    heads, channels = x.shape[-2:]
    if heads == value_heads:
        return x
    copies = numbers.concatenate([x[..., None, :]] * (value_heads // heads), -2)
    return copies.reshape((*x.shape[:-2], value_heads, channels))


def _gather(dx: Array, heads: int) -> Array:
    """The adjoint of `_share`."""
    value_heads, channels = dx.shape[-2:]
    if heads == value_heads:
        return dx
    return dx.reshape((*dx.shape[:-2], heads, value_heads // heads, channels)).sum(axis=-2)
