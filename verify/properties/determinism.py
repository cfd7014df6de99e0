"""The same call gives the same bits, again and again, at other addresses and after other memory has been used."""

from __future__ import annotations

import torch

from ...specs.inputs.make import generate
from ..cases.case import Case
from ..execution.compare import different_bits
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, held
from .base import Property

REPEATS = 10
_POISON_BYTES = 1 << 26


def check(case: Case, harness: Harness) -> Outcome:
    """Only a GPU can fail this: the interpreter runs one program after the other."""
    inputs, wanted = generate(case.problem), harness.kernel.differentiable
    first = harness.faithful(case, inputs, gradients=wanted)
    for repeat in range(1, REPEATS + 1):
        _poison_free_memory(harness.device)
        again = harness.faithful(case, inputs, gradients=wanted)
        if wrong := different_bits(case.problem, first, again, f"repeat {repeat} of one call", "nondeterminism"):
            return wrong
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
)
