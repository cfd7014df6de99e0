"""Forward and backward are adjoint: o and ht are linear in (v, h0), so <do, o> + <dht, ht> = <dv, v> + <dh0, h0>."""

from __future__ import annotations

from typing import Any

from ...specs.arithmetic.field import FieldArray, constant, same
from ..cases.replay import Case
from ..execution.compare import residue
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """Needs no oracle: both sides come from the kernel."""
    inputs = field_inputs(case.problem)
    outputs = harness.exact(case, inputs).outputs
    left = _inner(inputs.do, outputs["o"]) + _inner(inputs.dht, outputs.get("ht"))
    right = _inner(outputs["dv"], inputs.v) + _inner(outputs.get("dh0"), inputs.h0)
    if bool(same(left, right)):
        return held()
    return Outcome(
        status="failed",
        kind="structure",
        expected=residue(left),
        got=residue(right),
        message="<do, o> + <dht, ht> differs from <dv, v> + <dh0, h0>",
    )


def _inner(x: Any, y: Any) -> FieldArray:
    return constant(0.0) if x is None or y is None or not x.size else (x * y).sum()


ADJOINT = Property(
    name="adjoint",
    says="<do, o> + <dht, ht> = <dv, v> + <dh0, h0>",
    arithmetic="exact",
    kind="structure",
    catches=("backward inconsistent with forward", "dropped state gradient"),
    check=check,
    needs_gradients=True,
)
