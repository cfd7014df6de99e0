"""The arbitrary precision oracle, and a witness of its gradients that shares no derivation with it.

The oracle is `solve` over 60-digit numbers. The witness is a central difference of the scalar loss <o, do> + <ht, dht>,
of which the forward sweep is all it knows: a mistake in the reverse sweep cannot hide in both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..arithmetic.scalars import ARB, MP, Scalars, midpoints
from ..inputs.make import Inputs
from ..problem import Problem
from .recurrence import respond, solve

STEP = 1e-20
"""Step of the central difference: its truncation error (1e-40) and its rounding error (1e-60 / 1e-20) then match."""

_UNRESOLVED = 1e4
"""Third derivatives, in units of the loss: rates of 16 enter with their cube."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Differences:
    """Finite differences of the loss. where: flat indices into the tensor [E]; values: 60-digit numbers [E].

    resolution: the size that they cannot tell from 0. It grows with the loss, of whose values they are differences.
    """

    where: np.ndarray
    values: np.ndarray
    resolution: float

    def of(self, gradient: np.ndarray) -> np.ndarray:
        """The entries of a gradient that the differences are about [E]."""
        return gradient.reshape(-1)[self.where]


def best() -> Scalars:
    """Balls where python-flint is installed, mpmath otherwise."""
    return MP if ARB is None else ARB


def solve_precisely(problem: Problem, inputs: Inputs, system: Scalars | None = None) -> dict[str, np.ndarray]:
    """`solve` in 60 digits: object arrays of scalars. `scalars.midpoints`, `radius` and `digits` read them."""
    system = system or best()
    with system.precision():
        return solve(problem, inputs, system)


def finite_differences(
    problem: Problem, inputs: Inputs, *, limit: int | None = None, seed: int = 0, system: Scalars | None = None
) -> dict[str, Differences]:
    """Central differences of <o, do> + <ht, dht> in every input entry, or in `limit` entries per tensor, by `seed`.

    Keys are the names of gradients (dq, ..., dA_log). The decay gates must be finite: at g = -inf the gradient is 0 by
    decision, and no difference can say so.
    """
    system = system or best()
    rng = np.random.default_rng(seed)
    differences = {}
    with system.precision():
        exact = {name: system.array(x) for name, x in inputs.arrays().items()}
        for name in exact:
            if name in ("do", "dht"):
                continue
            size = exact[name].size
            where = np.sort(rng.choice(size, size if limit is None else min(limit, size), replace=False))
            differences[f"d{name}"] = _central(problem, Inputs(**exact), name, where, system)
    return differences


def _central(problem: Problem, inputs: Inputs, name: str, where: np.ndarray, system: Scalars) -> Differences:
    """One difference per entry of `where` [E], all in one forward sweep with a leading axis of perturbed copies."""
    x, step = getattr(inputs, name), system.constant(STEP)
    copies = np.broadcast_to(x.reshape(-1), (2, len(where), x.size)).copy()
    each = np.arange(len(where))
    copies[0, each, where] = copies[0, each, where] + step
    copies[1, each, where] = copies[1, each, where] - step
    shared: dict[str, Any] = {
        other: np.broadcast_to(y, (2, len(where), *y.shape)) for other, y in inputs.arrays().items() if other != name
    }
    perturbed = Inputs(**shared, **{name: copies.reshape(2, len(where), *x.shape)})
    outputs = respond(problem, perturbed, system)
    loss = _inner(outputs["o"], inputs.do)
    if inputs.dht is not None:
        loss = loss + _inner(outputs["ht"], inputs.dht)
    above, below = loss
    size = max((abs(float(midpoint)) for midpoint in midpoints(above)), default=0.0)
    return Differences(
        where=where, values=(above - below) * (1 / (2 * step)), resolution=_UNRESOLVED * STEP**2 * max(1.0, size)
    )


def _inner(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """<a, b> over the four trailing axes: o [..., B, T, HV, V], ht [..., N, HV, K, V]."""
    return (a * b).sum(axis=(-4, -3, -2, -1))
