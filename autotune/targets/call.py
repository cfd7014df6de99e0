"""The calls of a target beside the one that is compiled: those that share its programs, and the small one that is run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING

from ...specs.problem import Problem
from ...verify.targets.calls import TargetCall, filled, function_of, problem
from ..foreign.launches import BATCHES, HEADS, TOKENS

if TYPE_CHECKING:
    from ...kernels.registry import Kernel

FEW_HEADS, FEW_TOKENS, SHORT = 2, 150, 5
"""Of the calls that are judged: two chunks of 64 and a tail, and a packed sequence that is shorter than any tile."""


def siblings(call: TargetCall) -> Iterator[TargetCall]:
    """Calls of the same kernels that differ in heads, batch and length."""
    if call.rule:
        for heads, batch, tokens in product(HEADS, (1,) if _packed(call) else BATCHES, TOKENS):
            yield replace(call, heads=heads, batch=batch, tokens=tokens)


def judged(call: TargetCall) -> Problem:
    """The small call that stands for it where programs are run."""
    small = replace(call, heads=FEW_HEADS, batch=1, tokens=FEW_TOKENS)
    lengths = (SHORT, FEW_TOKENS - SHORT)
    return filled(small, problem(replace(small, full=False)), lengths)


def kernel_of(call: TargetCall, arch: int) -> Kernel:
    """The function as the verifier judges it, compiled for an architecture."""
    from ...verify.targets.function import of_function

    (kernel,) = of_function(call.target, function_of(call.target), f"sm_{arch}").kernels.values()
    return kernel


def _packed(call: TargetCall) -> bool:
    return problem(call).lengths is not None
