"""No access out of bounds, no element of an output left unwritten, no input or neighbouring buffer overwritten."""

from __future__ import annotations

from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ..cases.case import Case
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, held
from ..verdicts.plural import counted
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """One forward and backward pass with every address checked, in red-zoned and poisoned buffers.

    On a device addresses are not checked: inputs lie between red zones and allocations hold NaN. Stores beside an output, or
    beside the kernel's own allocations, are not seen there.
    """
    run = harness.bounds(case, generate(case.problem))
    if run.faults:
        first = run.faults[0]
        message = f"{counted(len(run.faults), 'forbidden access')}; the first: {first}"
        cause = f"{first.fault} at {first.file}:{first.line}"
    elif run.unwritten:
        name, count = next(iter(run.unwritten.items()))
        message = f"{count} elements of {name} are never written{_of_empty_sequences(case.problem, name, count)}"
        cause = f"{name} never written"
    elif run.damaged:
        message, cause = f"overwritten: {'; '.join(run.damaged)}", "overwritten"
    elif run.changed:
        message, cause = f"{', '.join(run.changed)}: changed by what lies beside the inputs", "read beside the inputs"
    else:
        return held()
    return Outcome(status="failed", kind="memory", message=message, cause=cause)


def _of_empty_sequences(problem: Problem, name: str, count: int) -> str:
    """The end of the message where exactly the final states of empty sequences are missing, else ""."""
    empty = sum(length == 0 for _, _, length in problem.sequences)
    states = empty * problem.HV * problem.K * problem.V
    if name != "ht" or count != states:
        return ""
    return f": as many as {counted(empty, 'empty sequence')} would leave in the final state"


MEMORY = Property(
    name="memory",
    says="every access is in bounds, every output element is written, no input is",
    arithmetic="bounds",
    kind="memory",
    catches=("missing mask", "unwritten tail", "clobbered input", "empty sequence"),
    check=check,
    pairs=True,
    calls=1.5,
    on_device=True,
    as_compiled=True,
)
