"""Outputs and all gradients equal the token recurrence, element by element, in exact arithmetic."""

from __future__ import annotations

from ...specs.field import FIELD
from ...specs.recurrence import solve
from ..case import Case
from ..compare import unequal
from ..harness import Harness, field_inputs
from ..outcome import Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """A wrong element is a structural bug; a right one reached through a narrowing cast breaks the fp32 contract."""
    inputs = field_inputs(case.problem)
    run = harness.exact(case, inputs)
    expected = solve(case.problem, inputs, FIELD)
    if not harness.kernel.differentiable:
        expected = {name: value for name, value in expected.items() if name in ("o", "ht")}
    if wrong := unequal(case.problem, expected, run.outputs, "not the token recurrence", "structure"):
        return wrong
    if run.narrowings:
        lines = ", ".join(f"{file}:{line}" for file, line in run.narrowings)
        return Outcome(
            status="failed", kind="precision", message=f"fp32 values pass through a narrower type at {lines}"
        )
    return held()


EQUALITY = Property(
    name="equality",
    says="outputs and all gradients equal the token recurrence",
    arithmetic="exact",
    kind="structure",
    catches=("index", "mask", "sign", "missing or extra term", "scale", "transposition", "chunk hand-off"),
    check=check,
    uses_oracle=True,
)
