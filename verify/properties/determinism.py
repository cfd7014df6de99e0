"""The same call gives the same bits, again and again, at other addresses and after other memory has been used."""

from __future__ import annotations

import torch

from ...specs.inputs.make import generate
from ..cases.case import Case
from ..execution.compare import different_bits
from ..execution.harness import Harness
from ..ptx.schedules import ALL
from ..verdicts.outcome import Outcome, held
from .base import Property

REPEATS = 10
_POISON_BYTES = 1 << 26


def check(case: Case, harness: Harness) -> Outcome:
    """Only compiled code can fail this: the interpreter runs one program after the other.

    Of a GPU that is not there, every launch gives the same bits in any order of warps and programs, whether asynchronous work is
    done at once or late.
    """
    inputs, wanted = generate(case.problem), harness.kernel.differentiable
    if harness.simulated:
        return _in_any_order(case, harness)
    first = harness.faithful(case, inputs, gradients=wanted)
    for repeat in range(1, REPEATS + 1):
        _poison_free_memory(harness.device)
        again = harness.faithful(case, inputs, gradients=wanted)
        if wrong := different_bits(case.problem, first, again, f"repeat {repeat} of one call", "nondeterminism"):
            return wrong
    return held()


def _in_any_order(case: Case, harness: Harness) -> Outcome:
    for verdict in harness.launches(case, generate(case.problem), ALL):
        for found in verdict.differences:
            first, second = found.schedules
            return Outcome(
                status="failed",
                kind="nondeterminism",
                message=f"{found.count} bytes of {found.memory} that {verdict.kernel} leaves differ between the schedules "
                f"{first!r} and {second!r}, the first at byte {found.offset}",
                cause=f"{verdict.kernel} {found.memory}",
            )
    return held()


def _poison_free_memory(device: str) -> None:
    """Leave NaN where the next call allocates, so that whoever reads before writing sees another value."""
    poison = torch.full((_POISON_BYTES // 4,), float("nan"), device=device)
    del poison


DETERMINISM = Property(
    name="determinism",
    says="the same call gives the same bits on every repeat",
    arithmetic="device",
    kind="nondeterminism",
    catches=("race", "read before write", "atomic order"),
    check=check,
    calls=10,
    on_device=True,
    as_compiled=True,
)
