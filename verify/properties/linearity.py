"""The rule is linear in (v, h0): outputs and gate gradients add up over two inputs, dv and dh0 depend on neither."""

from __future__ import annotations

from dataclasses import replace

from ..cases.replay import Case
from ..execution.compare import unequal
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """Three calls that share everything but (v, h0): one, another, and their sum."""
    first, other = field_inputs(case.problem), field_inputs(case.problem, salt=1)
    second = replace(first, v=other.v, h0=other.h0)
    both = replace(first, v=first.v + other.v, h0=None if first.h0 is None else first.h0 + other.h0)
    x, y, z = (harness.exact(case, inputs).outputs for inputs in (first, second, both))
    free = ("dv", "dh0")
    added = {name: x[name] + y[name] for name in x if name not in free}
    return (
        unequal(case.problem, added, z, "not linear in (v, h0)", "structure")
        or unequal(case.problem, {n: x[n] for n in free if n in x}, y, "depends on (v, h0)", "structure")
        or held()
    )


LINEARITY = Property(
    name="linearity",
    says="outputs and gate gradients are linear in (v, h0)",
    arithmetic="exact",
    kind="structure",
    catches=("stale or uninitialised values", "input used twice", "missing term"),
    check=check,
    calls=3,
)
