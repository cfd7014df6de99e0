"""A packed batch, empty sequences included, gives the results that its sequences give one by one."""

from __future__ import annotations

from dataclasses import replace

from ...kernels.registry import Kernel
from ...specs.problem import Problem
from ..cases.case import Case
from ..cases.rearrange import join_sequences, pack, take_sequence, unpack_batch
from ..execution.compare import unequal
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """A plain batch is packed and compared with itself; a packed one with its sequences."""
    problem, inputs = case.problem, field_inputs(case.problem)
    if problem.lengths is None:
        harness.require(pack(problem, inputs)[0])
    whole = harness.exact(case, inputs).outputs
    if problem.lengths is None:
        flat_problem, flat = pack(problem, inputs)
        packed = unpack_batch(problem, harness.exact(replace(case, problem=flat_problem), flat).outputs)
        return unequal(problem, whole, packed, "packed differs from batched", "structure") or held()
    parts = []
    for index in range(len(problem.sequences)):
        alone, own = take_sequence(problem, inputs, index)
        parts.append(harness.exact(replace(case, problem=alone), own).outputs)
    return unequal(problem, join_sequences(parts), whole, "packed differs from one by one", "structure") or held()


def applies(kernel: Kernel, problem: Problem) -> str | None:
    """There must be more than one sequence."""
    return None if len(problem.sequences) > 1 else "a single sequence packs into itself"


PACKING = Property(
    name="packing",
    says="packed sequences, empty ones included, give what they give one by one",
    arithmetic="exact",
    kind="structure",
    catches=("cu_seqlens", "state of an empty sequence", "batch stride", "leak between sequences"),
    check=check,
    applies=applies,
    calls=4,
)
