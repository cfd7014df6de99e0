"""Every row of every output and gradient is within its error budget: the cost of rounding on this very input."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from ...specs.budget import Budget, ratios
from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ..cases.case import Case
from ..execution.budget_cache import cached_budget
from ..execution.compare import missing
from ..execution.contracts import budget_of, contract_of
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, held, place
from .base import Property

_FAR = 100
"""Times its budget, beyond which an error is of another sort than one that just misses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstRow:
    """The row with the largest error over sigma, and in it the element that is furthest off.

    by_tensor: the largest error over sigma of every output.
    """

    ratio: float
    tensor: str
    index: tuple[int, ...]
    expected: float
    got: float
    by_tensor: Mapping[str, float]


def check(case: Case, harness: Harness) -> Outcome:
    """Above the budget in fp32 is instability; only in the problem's own dtype, precision."""
    problem = case.problem
    outputs = harness.faithful(case, generate(problem), gradients=harness.kernel.differentiable)
    # At served head dimensions a budget costs more than a compiled kernel.
    allowed = (cached_budget if harness.simulated else budget_of)(problem, contract_of(harness.kernel, case))
    if absent := missing({"o": 0} | ({"ht": 0} if problem.final_state else {}), outputs):
        return absent
    worst = worst_row(outputs, allowed)
    if worst is None or worst.ratio <= harness.tau:
        return held(0.0 if worst is None else worst.ratio / harness.tau, _over_budget(worst, harness.tau))
    if change := _would_hold(case, harness, outputs):
        worst_message = f"{_message(problem, worst, harness.tau)}; within its budget if it declares {change}"
    else:
        worst_message = _message(problem, worst, harness.tau)
    kind = "instability"
    if problem.dtype != "fp32":
        full = check(replace(case, problem=replace(problem, dtype="fp32")), harness)
        kind = "instability" if full.status == "failed" else "precision"
    return Outcome(
        status="failed",
        kind=kind,
        ratio=worst.ratio / harness.tau,
        place=place(problem, worst.tensor, worst.index),
        expected=worst.expected,
        got=worst.got,
        message=worst_message,
        cause="not finite"
        if not math.isfinite(worst.got)
        else "inexact"
        if worst.ratio < _FAR * harness.tau
        else "far off",
        ratios=_over_budget(worst, harness.tau),
    )


def _would_hold(case: Case, harness: Harness, outputs: Mapping[str, np.ndarray]) -> str:
    """The declaration that somebody else's kernel lacks and under which it would hold, if there is one."""
    kernel = harness.kernel
    if not kernel.foreign or kernel.sums_decay_gradient or "dg" not in outputs:
        return ""
    contract = replace(contract_of(kernel, case), sums_decay_gradient=True)
    worst = worst_row(outputs, budget_of(case.problem, contract))
    return "sums_decay_gradient" if worst is None or worst.ratio <= harness.tau else ""


def _message(problem: Problem, worst: WorstRow, tau: float) -> str:
    """How far off the worst row is; of one that is not finite, also how strong the decay gets, its usual reason."""
    if math.isfinite(worst.got) or not math.isfinite(worst.expected):
        return f"{worst.tensor} is {worst.ratio:.3g} sigma off, {worst.ratio / tau:.3g} times its budget"
    g = generate(replace(problem, gate_in_kernel=False)).g
    decay = "" if g is None or not g.size else f"; the strongest log decay of a token is {g.min():.4g}"
    return f"{worst.tensor} is {worst.got} where it is finite{decay}"


def _over_budget(worst: WorstRow | None, tau: float) -> tuple[tuple[str, float], ...]:
    return () if worst is None else tuple((name, ratio / tau) for name, ratio in worst.by_tensor.items())


def worst_row(outputs: Mapping[str, np.ndarray], allowed: Budget) -> WorstRow | None:
    """The worst row of all outputs; None if there are none."""
    reference = {name: truth for name, truth in allowed.reference.items() if name in outputs}
    found = ratios(outputs, reference, allowed.sigma, allowed.contract)
    worst = [(float(rows.max()), name) for name, rows in found.items() if rows.size]
    if not worst:
        return None
    ratio, name = max(worst)
    row = np.unravel_index(int(found[name].argmax()), found[name].shape)
    output, truth = np.asarray(outputs[name], dtype=np.float64), reference[name]
    index = tuple(int(i) for i in row)
    if truth.ndim > len(index):
        with np.errstate(invalid="ignore"):
            error = np.abs(output[index] - truth[index])
        # NaN is the largest error of all.
        index = (*index, int(np.where(np.isnan(error), np.inf, error).argmax()))
    return WorstRow(
        ratio=ratio,
        tensor=name,
        index=index,
        expected=float(truth[index]),
        got=float(output[index]),
        by_tensor={name: ratio for ratio, name in worst},
    )


ERROR = Property(
    name="error",
    says="every row of every output and gradient is within its error budget",
    arithmetic="faithful",
    kind="instability",
    catches=("overflow", "cancellation", "low-precision sum or store", "wrong constant", "NaN from strong gates"),
    check=check,
    uses_oracle=True,
    shapes=("rounded",),
    on_device=True,
    as_compiled=True,
)
