"""The fp64 oracle agrees with 60-digit arithmetic, and its gradients with finite differences. No kernel is involved."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...specs.arithmetic.numbers import FLOAT64
from ...specs.arithmetic.scalars import digits, midpoints
from ...specs.budget import budget, ratios
from ...specs.inputs.make import Inputs, generate
from ...specs.oracle.options import prepare
from ...specs.oracle.precise import finite_differences, solve_precisely
from ...specs.oracle.recurrence import solve
from ...specs.problem import Problem
from ...specs.rounding.contract import TOKEN_CONTRACTS, Rounding
from ..cases.case import Case
from ..execution.contracts import SITES
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, held, place
from .base import Property

DIGITS = 12
"""Digits that fp64 must keep where the problem is well conditioned; elsewhere it must keep the fp64 contract."""

WITNESS_DIGITS = 20
"""Digits to which the 60-digit gradients must agree with central differences, whose error is near 1e-40."""

_FP64 = Rounding(unit=2.0**-53, quantum=0.0)
_CONTRACT = replace(
    TOKEN_CONTRACTS["fp32"],
    name="fp64",
    **dict.fromkeys(SITES, _FP64),
)


def check(case: Case, harness: Harness) -> Outcome:
    """On a small version of the problem, which keeps all its options."""
    problem = shrunken(case.problem)
    inputs = generate(problem)
    truth, found = solve_precisely(problem, inputs), solve(problem, inputs)
    short = {name: d for name, x in found.items() if x.size and (d := digits(x, truth[name])) < DIGITS}
    if short and (wrong := _off_contract(problem, inputs, truth, found, harness.tau)):
        return wrong
    return _witness(problem, inputs, truth) or held()


def shrunken(problem: Problem) -> Problem:
    """At most 10 tokens a sequence, 3 sequences, and 5 channels: 60-digit numbers are Python objects."""
    size = {"K": min(problem.K, 5), "V": min(problem.V, 4), "B": min(problem.B, 2)}
    if problem.lengths is None:
        return replace(problem, T=min(problem.T, 10), **size)
    lengths = tuple(min(length, 10) for length in problem.lengths[:3])
    return replace(problem, lengths=lengths, T=sum(lengths), **size)


def _off_contract(
    problem: Problem, inputs: Inputs, truth: dict[str, np.ndarray], found: dict[str, np.ndarray], tau: float
) -> Outcome | None:
    """Few digits may be right where the input is ill-conditioned: fp64 rounding must explain the error."""
    rounded = {name: midpoints(x).astype(np.float64) for name, x in truth.items()}
    rows = ratios(found, rounded, budget(problem, inputs, _CONTRACT).sigma, _CONTRACT)
    for name, ratio in rows.items():
        if ratio.size and not ratio.max() <= tau:
            index = tuple(int(i) for i in np.unravel_index(int(ratio.argmax()), ratio.shape))
            index += (0,) * (found[name].ndim - len(index))
            return Outcome(
                status="failed",
                kind="precision",
                ratio=float(ratio.max()) / tau,
                place=place(problem, name, index),
                expected=float(rounded[name][index]),
                got=float(found[name][index]),
                message=f"{name} has {digits(found[name], truth[name]):.1f} digits, which fp64 does not explain",
            )
    return None


def _witness(problem: Problem, inputs: Inputs, truth: dict[str, np.ndarray]) -> Outcome | None:
    """Central differences know only the forward sweep. At a decay of -inf they cannot answer, nor below their resolution,
    where a gate has forgotten all or nothing at all."""
    decay = prepare(problem, inputs, FLOAT64)[1].get("g")
    if decay is not None and not np.isfinite(decay).all():
        return None
    for name, differences in finite_differences(problem, inputs, limit=1, seed=problem.seed).items():
        if not differences.where.size:
            continue
        swept = differences.of(truth[name])
        apart = max(abs(float(x)) for x in midpoints(differences.values) - midpoints(swept))
        if apart > differences.resolution and digits(differences.values, swept) < WITNESS_DIGITS:
            index = tuple(int(i) for i in np.unravel_index(int(differences.where[0]), truth[name].shape))
            return Outcome(
                status="failed",
                kind="structure",
                place=place(problem, name, index),
                expected=float(midpoints(differences.values)[0]),
                got=float(midpoints(swept)[0]),
                message=f"{name} of the reverse sweep is not the derivative of the forward sweep",
            )
    return None


ORACLE = Property(
    name="oracle",
    says="fp64 agrees with 60-digit arithmetic, and gradients with finite differences",
    arithmetic="none",
    kind="structure",
    catches=("wrong oracle", "fp64 that is not enough"),
    check=check,
    needs_kernel=False,
    calls=0.5,
)
