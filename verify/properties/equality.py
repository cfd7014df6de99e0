"""Outputs and all gradients equal the token recurrence, element by element, in exact arithmetic."""

from __future__ import annotations

from functools import lru_cache

from ...specs.arithmetic.field import FIELD, FieldArray
from ...specs.oracle.recurrence import solve
from ...specs.problem import Problem
from ..cases.case import Case
from ..execution.compare import unequal
from ..execution.contracts import promises_ieee_products
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """A wrong element is a structural bug; a right one reached through a narrowing cast or product breaks the contract."""
    inputs = field_inputs(case.problem)
    run = harness.exact(case, inputs)
    expected = _solution(case.problem)
    if not harness.kernel.differentiable:
        expected = {name: value for name, value in expected.items() if name in ("o", "ht")}
    if wrong := unequal(case.problem, expected, run.outputs, "not the token recurrence", "structure"):
        return wrong
    if run.narrowings:
        lines = ", ".join(f"{file}:{line}" for file, line in run.narrowings)
        return Outcome(
            status="failed", kind="precision", message=f"fp32 values pass through a narrower type at {lines}"
        )
    if run.rounded_dots and promises_ieee_products(harness.kernel, case):
        lines = ", ".join(f"{file}:{line}" for file, line in run.rounded_dots)
        return Outcome(status="failed", kind="precision", message=f"fp32 operands of products are rounded at {lines}")
    return held()


@lru_cache(maxsize=256)
def _solution(problem: Problem) -> dict[str, FieldArray]:
    """Kept, since the same few problems are asked of every planted fault."""
    return solve(problem, field_inputs(problem), FIELD)


EQUALITY = Property(
    name="equality",
    says="outputs and all gradients equal the token recurrence",
    arithmetic="exact",
    kind="structure",
    catches=("index", "mask", "sign", "missing or extra term", "scale", "transposition", "chunk hand-off"),
    check=check,
    pairs=True,
    uses_oracle=True,
)
