"""The error of computing the gradient of a decay as a difference of sums, as many implementations do.

Per token and key channel, dg_t = dg_(t+1) + q dq - k dk + 2 b db (with the last state's share at the end): a sum over the rest of
the sequence whose terms may be far larger than itself, and whose value may even be 0. Our kernels must not lose the digits that
cancel there, and no contract of ours allows for it; one that judges somebody else's kernel may, and says so
(`PrecisionContract.sums_decay_gradient`).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..problem import Problem
from .noise import Noisy

_FACTORS = {"q": 1.0, "k": 1.0, "b": 2.0}


def with_summing_noise(
    problem: Problem, prepared: Mapping[str, np.ndarray], gradients: Mapping[str, np.ndarray], numbers: Noisy
) -> np.ndarray:
    """The replicas of dg [R, B, T, G, C] moved by the error of rounding the terms of such a sum.

    prepared, gradients: the rule's own inputs and their gradients, [R, B, T, heads, channels], scalar gates with one channel.
    """
    dg = gradients["g"]
    heads, channels = dg.shape[-2:]
    squares = np.zeros(dg.shape)
    for name, factor in _FACTORS.items():
        if name not in gradients:
            continue
        x, dx = prepared[name], gradients[name]
        rounded = (factor * numbers.contract.operand.unit * x * dx) ** 2
        moved = (factor * x * (dx - dx.mean(axis=0))) ** 2
        term = np.broadcast_to(rounded + moved, np.broadcast_shapes(x.shape, dx.shape))
        if channels == 1:
            term = term.sum(axis=-1, keepdims=True)
        elif term.shape[-1] == 1:
            term = term / channels  # a scalar erase gate's share of one key channel
        squares += _on_rows(term, heads)
    rest = np.zeros(dg.shape)
    for row, start, length in problem.sequences:
        own = squares[:, row, start : start + length]
        rest[:, row, start : start + length] = own[:, ::-1].cumsum(axis=1)[:, ::-1]
    return dg + np.sqrt(rest) * numbers.uniform(dg.shape)


def _on_rows(term: np.ndarray, heads: int) -> np.ndarray:
    """A term per key head or value head [..., heads of it, C] for each of the decay's `heads`."""
    own = term.shape[-2]
    if own == heads:
        return term
    if own < heads:
        return np.repeat(term, heads // own, axis=-2)
    return term.reshape((*term.shape[:-2], heads, own // heads, term.shape[-1])).sum(axis=-2)
