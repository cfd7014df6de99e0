"""Permuting batch rows, heads, key channels and value channels of the inputs permutes the outputs alike."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...specs.problem import Problem
from ..cases.replay import Case
from ..execution.compare import unequal
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, held
from .base import Property


@dataclass(frozen=True, slots=True, kw_only=True)
class Permutation:
    """New order of rows, key heads, value heads, key channels and value channels."""

    row: np.ndarray
    key_head: np.ndarray
    value_head: np.ndarray
    key: np.ndarray
    value: np.ndarray

    @classmethod
    def of(cls, problem: Problem) -> Permutation:
        """Drawn from the seed. Value heads stay with their key head; packed sequences keep their order."""
        rng = np.random.default_rng((problem.seed, 3))
        group = problem.HV // problem.H
        key_head, within = _cycle(rng, problem.H), _cycle(rng, group)
        return cls(
            row=np.arange(len(problem.sequences)) if problem.lengths is not None else _cycle(rng, problem.B),
            key_head=key_head,
            value_head=(key_head[:, None] * group + within[None]).reshape(-1),
            key=_cycle(rng, problem.K),
            value=_cycle(rng, problem.V),
        )

    def apply(self, problem: Problem, name: str, x: Any) -> Any:
        """Permute the input or output `name`."""
        name = name if name in ("do", "dht", "dt_bias") else name.removeprefix("d")
        gate_head = self.value_head if problem.gate_heads == "value" else self.key_head
        if name in ("h0", "ht", "dht"):
            return x[self.row][:, self.value_head][:, :, self.key][..., self.value]
        if name == "A_log":
            return x[gate_head]
        if name == "dt_bias":
            if problem.rule.decay == "scalar":
                return x[gate_head]
            return x.reshape((problem.gate_rows, problem.K))[gate_head][:, self.key].reshape(x.shape)
        if problem.lengths is None:
            x = x[self.row]
        x = x[:, :, {"q": self.key_head, "k": self.key_head, "g": gate_head, "b": gate_head}.get(name, self.value_head)]
        if x.ndim == 3:
            return x
        return x[..., self.key if name in ("q", "k", "g", "b") else self.value]


def check(case: Case, harness: Harness) -> Outcome:
    """All permutations at once: where one fails, shrinking finds which."""
    problem, inputs = case.problem, field_inputs(case.problem)
    permutation = Permutation.of(problem)
    moved = {name: permutation.apply(problem, name, x) for name, x in inputs.arrays().items()}
    before, after = harness.exact(case, inputs).outputs, harness.exact(case, replace(inputs, **moved)).outputs
    expected = {name: permutation.apply(problem, name, x) for name, x in before.items()}
    return unequal(problem, expected, after, "does not follow a permutation of its inputs", "structure") or held()


def _cycle(rng: np.random.Generator, size: int) -> np.ndarray:
    """A random permutation that leaves nothing in its place (but a single element)."""
    order, cycle = rng.permutation(size), np.empty(size, dtype=np.int64)
    cycle[order] = np.roll(order, 1)
    return cycle


PERMUTATION = Property(
    name="permutation",
    says="permuting batch, heads and channels permutes the outputs",
    arithmetic="exact",
    kind="structure",
    catches=("stride", "head mapping", "batch offset", "channel mixed up"),
    check=check,
    calls=2,
)
