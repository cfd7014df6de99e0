"""Every chunk size and configuration computes the same function, which is also that of the recurrent kernel."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...kernels.registry import Kernel
from ...specs.problem import Problem
from ..cases.replay import Case
from ..execution.compare import unequal
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Inapplicable, Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """The drawn configuration against one of each chunk size, then against the recurrent kernel of the target."""
    problem, inputs = case.problem, field_inputs(case.problem)
    by_chunk = {config.chunk_size: config for config in reversed(harness.kernel.configs(problem))}
    configs = [config for config in by_chunk.values() if config != case.config]
    kernels = _recurrent(harness, problem)
    if not configs and not kernels:
        raise Inapplicable("has a single configuration, and no token-by-token kernel to agree with")
    drawn = harness.exact(case, inputs).outputs
    for config in configs:
        other = harness.exact(replace(case, config=config), inputs).outputs
        if wrong := unequal(problem, drawn, other, f"configuration {config.token} disagrees", "structure"):
            return wrong
    for kernel in kernels:
        token_by_token = replace(case, config=kernel.configs(problem)[0])
        other = harness.with_kernel(kernel).exact(token_by_token, inputs, gradients=False).outputs
        forward = {name: drawn[name] for name in ("o", "ht") if name in drawn}
        if wrong := unequal(problem, forward, other, f"{kernel.name} disagrees", "structure"):
            return wrong
    return held()


def applies(kernel: Kernel, problem: Problem) -> str | None:
    """There must be a second way to compute it."""
    return "a token-by-token kernel has no chunks" if kernel.op == "recurrent" else None


def _recurrent(harness: Harness, problem: Problem) -> list[Any]:
    others = (kernel for name, kernel in harness.kernels.items() if name != harness.kernel.name)
    return [kernel for kernel in others if kernel.op == "recurrent" and kernel.accepts(problem) is True]


CHUNK_INVARIANCE = Property(
    name="chunk_invariance",
    says="all chunk sizes and configurations agree, and agree with the recurrent kernel",
    arithmetic="exact",
    kind="structure",
    catches=("a configuration that is wrong", "chunk boundary", "prefill and decode disagree"),
    check=check,
    applies=applies,
    calls=4,
)
