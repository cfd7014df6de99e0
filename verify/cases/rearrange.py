"""Take inputs apart and put outputs together: by token, by sequence, by permutation. Works in any arithmetic."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...specs.arithmetic import field
from ...specs.inputs.make import Inputs
from ...specs.problem import Problem

TOKEN_WISE = ("q", "k", "v", "g", "b", "w", "do")
STATES = ("h0", "dht")
PARAMETERS = ("A_log", "dt_bias")

Outputs = Mapping[str, Any]


def concatenate(arrays: Sequence[Any], axis: int) -> Any:
    """numpy's, for arrays of either arithmetic."""
    join = field.concatenate if isinstance(arrays[0], field.FieldArray) else np.concatenate
    return join(list(arrays), axis)


def take_tokens(inputs: Inputs, tokens: np.ndarray) -> Inputs:
    """Only these positions of the token axis, in this order; states and parameters stay."""
    return _each(inputs, TOKEN_WISE, lambda x: x[:, tokens])


def take_sequence(problem: Problem, inputs: Inputs, index: int) -> tuple[Problem, Inputs]:
    """One sequence of a batch, as a problem of its own."""
    row, start, length = problem.sequences[index]
    alone = _each(inputs, TOKEN_WISE, lambda x: x[row : row + 1, start : start + length])
    alone = _each(alone, STATES, lambda x: x[index : index + 1])
    return replace(problem, B=1, T=length, lengths=None), alone


def pack(problem: Problem, inputs: Inputs) -> tuple[Problem, Inputs]:
    """A plain batch as a packed one."""
    flat = _each(inputs, TOKEN_WISE, lambda x: x.reshape((1, problem.B * problem.T, *x.shape[2:])))
    return replace(problem, B=1, T=problem.B * problem.T, lengths=(problem.T,) * problem.B), flat


def unpack_batch(problem: Problem, outputs: Outputs) -> dict[str, Any]:
    """Outputs of the packed form of `problem`, in the layout of the plain one."""
    return {
        name: x.reshape((problem.B, problem.T, *x.shape[2:])) if token_wise(name) else x for name, x in outputs.items()
    }


def join_tokens(parts: Sequence[Outputs], positions: Sequence[np.ndarray]) -> dict[str, Any]:
    """Token-wise outputs of parts back at their positions; gradients of parameters add up; states are left out."""
    back = np.argsort(np.concatenate(positions), kind="stable")
    joined: dict[str, Any] = {}
    for name in parts[0]:
        if token_wise(name):
            joined[name] = concatenate([part[name] for part in parts], 1)[:, back]
        elif name.removeprefix("d") in PARAMETERS:
            joined[name] = sum_of([part[name] for part in parts])
    return joined


def join_sequences(parts: Sequence[Outputs]) -> dict[str, Any]:
    """Outputs of separate sequences as those of their packed batch."""
    joined: dict[str, Any] = {}
    for name in parts[0]:
        arrays = [part[name] for part in parts]
        if name.removeprefix("d") in PARAMETERS:
            joined[name] = sum_of(arrays)
        else:
            joined[name] = concatenate(arrays, 1 if token_wise(name) else 0)
    return joined


def sum_of(arrays: Sequence[Any]) -> Any:
    """Of at least one array, in its own arithmetic."""
    total = arrays[0]
    for array in arrays[1:]:
        total = total + array
    return total


def token_wise(name: str) -> bool:
    """Whether an output (or input) has a token axis."""
    return name == "o" or name.removeprefix("d") in TOKEN_WISE


def _each(inputs: Inputs, names: Sequence[str], change: Any) -> Inputs:
    arrays = inputs.arrays()
    return replace(inputs, **{name: change(arrays[name]) for name in names if name in arrays})
