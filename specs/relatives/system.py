"""A relative as the specification sees it: its own published recurrence, and how to draw inputs for it.

A recurrence is written token by token in fp64 torch, as its paper prints it and not as this package computes it; its
gradients come from autograd. It sees one sequence at a time: `x` maps names to tensors [T, ..., heads(, channels)] with
key heads and value heads as they were passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..inputs.make import Inputs, generate
from ..problem import Problem

States = tuple[Tensor, ...]
Recurrence = Callable[..., tuple[Tensor, States]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drawn:
    """One call of a system, and its cotangents; float64 values that its dtype holds.

    tensors: arguments by name, [B, T, ...]. states: initial states [N, ...], or None to start from nothing. do: the
    gradient of the outputs. dstates: gradients of the final states. settings: arguments that are no tensors.
    weights: tensor arguments without a token axis.
    """

    tensors: dict[str, np.ndarray]
    do: np.ndarray
    states: tuple[np.ndarray, ...] | None = None
    dstates: tuple[np.ndarray, ...] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """One relative.

    source: paper and equation of `recurrence`. how: the re-parameterisation that brings it into the family, one line.
    draw: from a problem and the inputs of the rule that lends its gates. recurrence: called as
    recurrence(x, states, scale, **settings); states are empty when it is to start from nothing.
    outputs: its results beside o. grouped: may have more value heads than key heads.
    """

    name: str
    title: str
    source: str
    how: str
    draw: Callable[[Problem, Inputs], Drawn]
    recurrence: Recurrence
    outputs: tuple[str, ...] = ("state",)
    grouped: bool = True


def plain(problem: Problem, inputs: Inputs, **tensors: np.ndarray) -> Drawn:
    """A system whose only state is S: q, k, v and the tensors given."""
    return Drawn(
        tensors={"q": inputs.q, "k": inputs.k, "v": inputs.v, **tensors},
        do=inputs.do,
        states=None if inputs.h0 is None else (inputs.h0,),
        dstates=None if inputs.dht is None else (inputs.dht,),
    )


def another(problem: Problem, turn: int) -> Inputs:
    """More tensors of the same problem, from another seed."""
    return generate(replace(problem, seed=problem.seed + 10_007 * turn))


def no_longer(x: np.ndarray, length: float) -> np.ndarray:
    """Vectors along the last axis, shortened to `length` where they are longer."""
    return x * np.minimum(1.0, length / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300))


def drawn(system: System, problem: Problem) -> Drawn:
    """The system's inputs for a problem, always the same."""
    return system.draw(problem, generate(problem))


def solve(system: System, problem: Problem, call: Drawn) -> dict[str, np.ndarray]:
    """Outputs and gradients by name: o, the final states, d<name> of every tensor, weight and initial state.

    Gradients of initial states are named after the states (dstate, ...). Those of states that are not asked for are left
    out.
    """
    leaves = {name: torch.from_numpy(x).clone().requires_grad_() for name, x in (call.tensors | call.weights).items()}
    starts = [] if call.states is None else [torch.from_numpy(x).clone().requires_grad_() for x in call.states]
    outs, finals = [], []
    for index, (row, first, length) in enumerate(problem.sequences):
        x = {name: leaves[name][row, first : first + length] for name in call.tensors}
        x |= {name: leaves[name] for name in call.weights}
        o, final = system.recurrence(x, tuple(s[index] for s in starts), problem.effective_scale, **call.settings)
        outs.append(o)
        finals.append(final)
    # Sequences are the rows of a batch, or follow one another in its only row.
    o = torch.cat(outs).reshape(call.do.shape)
    lasts = [torch.stack(states) for states in zip(*finals, strict=True)]
    found: dict[str, Any] = {"o": o} | dict(zip(system.outputs, lasts, strict=True))
    total = (o * torch.from_numpy(call.do)).sum()
    if call.dstates is not None:
        total = total + sum((s * torch.from_numpy(d)).sum() for s, d in zip(lasts, call.dstates, strict=True))
    names = {f"d{name}": x for name, x in leaves.items()} | dict(
        zip([f"d{name}" for name in system.outputs], starts, strict=False)
    )
    if total.requires_grad:
        pulled = torch.autograd.grad(total, list(names.values()), allow_unused=True, materialize_grads=True)
    else:
        pulled = [torch.zeros_like(x) for x in names.values()]
    if call.dstates is None:
        found = {"o": o}
    found |= dict(zip(names, pulled, strict=True))
    return {name: x.detach().numpy() for name, x in found.items()}


def value_heads(x: Tensor, HV: int, axis: int = -2) -> Tensor:
    """Key heads repeated so that value head j finds key head j // (HV / H)."""
    return x.repeat_interleave(HV // x.shape[axis], axis)


def outer(x: Tensor, y: Tensor) -> Tensor:
    """x y^T over the last axes."""
    return x[..., :, None] * y[..., None, :]


def times(x: Tensor, S: Tensor) -> Tensor:
    """x^T S: [..., K], [..., K, V] -> [..., V]."""
    return (x[..., None, :] @ S).squeeze(-2)


def start(states: States, *shape: int) -> Tensor:
    """S before the first token."""
    return states[0] if states else torch.zeros(*shape, dtype=torch.float64)


def stacked(o: list[Tensor], like: Tensor) -> Tensor:
    """Outputs of the tokens in turn; as empty as `like` where there are none."""
    return torch.stack(o) if o else torch.zeros_like(like)
