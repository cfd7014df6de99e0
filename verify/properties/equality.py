"""Outputs and all gradients equal the token recurrence, element by element, in exact arithmetic."""

from __future__ import annotations

from functools import lru_cache

from ...specs.arithmetic.field import FIELD, FieldArray
from ...specs.arithmetic.tagged import meeting
from ...specs.oracle.recurrence import solve
from ...specs.problem import Problem
from ..cases.production import SHAPES
from ..cases.replay import Case
from ..execution.compare import unequal
from ..execution.contracts import is_ours, promises_ieee_products
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, Unsupported, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """A wrong element is a structural bug; a right one reached through a narrowing cast or product breaks the contract."""
    inputs = field_inputs(case.problem)
    run = harness.exact(case, inputs)
    expected = _solution(case.problem)
    if not harness.kernel.differentiable:
        expected = {name: value for name, value in expected.items() if name in ("o", "ht")}
    if wrong := unequal(case.problem, expected, run.outputs, "not the token recurrence", "structure"):
        if not is_ours(harness.kernel) and (forms := _other_forms(case, harness)):
            raise Unsupported(f"exact arithmetic knows another form of {forms}; `error` judges this one")
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


def _other_forms(case: Case, harness: Harness) -> str:
    """Roots and logarithms that the kernel takes of other values than the recurrence does.

    Two forms of one function, log(1 + exp(x)) and x + log(1 + exp(-x)) say, are not equal here, so that a difference says
    nothing. Ours are written in the form of the recurrence, and are held to it.
    """
    inputs = field_inputs(case.problem)
    with meeting() as known:
        solve(case.problem, inputs, FIELD)
    with meeting() as met:
        harness.exact(case, inputs)
    return " and ".join(sorted({operation for operation, _ in met - known}))


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
    # Equality sees no rounding.
    shapes=tuple(name for name, shape in SHAPES.items() if "dtype" not in shape.fields),
    uses_oracle=True,
    as_compiled=True,
    ours_as_compiled=True,
)
