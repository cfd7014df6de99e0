"""No access out of bounds, no element of an output left unwritten, no input or neighbouring buffer overwritten."""

from __future__ import annotations

from ...specs.inputs import generate
from ..case import Case
from ..harness import Harness
from ..outcome import Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """One forward and backward pass with every address checked, in red-zoned and poisoned buffers."""
    run = harness.bounds(case, generate(case.problem))
    if run.faults:
        message = f"{len(run.faults)} forbidden accesses; the first: {run.faults[0]}"
    elif run.unwritten:
        name, count = next(iter(run.unwritten.items()))
        message = f"{count} elements of {name} are never written"
    elif run.damaged:
        message = f"overwritten: {'; '.join(run.damaged)}"
    else:
        return held()
    return Outcome(status="failed", kind="memory", message=message)


MEMORY = Property(
    name="memory",
    says="every access is in bounds, every output element is written, no input is",
    arithmetic="bounds",
    kind="memory",
    catches=("missing mask", "unwritten tail", "clobbered input", "empty sequence"),
    check=check,
    pairs=True,
    calls=1.5,
)
