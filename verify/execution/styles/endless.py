"""Calls of more than 2^16 tokens, where no interpreter is in between: the same few over and over, each time from nothing."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from ....specs.inputs.make import Inputs, generate
from ....specs.problem import Problem
from ...cases.case import Case
from ...cases.rearrange import take_tokens
from ...verdicts.outcome import Inapplicable
from .. import execute

if TYPE_CHECKING:
    from ....kernels.registry import Kernel

_PERIOD, _TIMES = 192, 343
"""Tokens, and how often they come: the last time is past 2^16 from its first token on."""
_FORGETS = -60.0
"""The log-decay of the first of them."""
_FEW = 16
"""Times that tell how long all of them would take."""
_SECONDS, _BYTES = 60.0, 2**30
"""Of the processor, and of memory, that they may take."""


def period(case: Case, kernel: Kernel) -> tuple[Case, Inputs]:
    """The few tokens, which do not depend on those before them. Raises Inapplicable for a case that cannot be judged so."""
    problem = Problem(
        rule=case.problem.rule, T=_PERIOD, K=8, V=8, initial_state=False, final_state=case.problem.final_state
    )
    if kernel.needs_triton:
        raise Inapplicable("`offsets` asks Triton kernels for many tokens")
    if kernel.accepts(problem) is not True or kernel.accepts(replace(problem, T=_PERIOD * _TIMES)) is not True:
        raise Inapplicable("does not take so many tokens")
    if problem.rule.decay == "none":
        raise Inapplicable("never forgets, so that the end of many tokens is not that of few")
    inputs = generate(problem)
    assert inputs.g is not None
    g = inputs.g.copy()
    g[:, 0] = _FORGETS
    return replace(case, problem=problem, style=""), replace(inputs, g=g)


def last_of_many(kernel: Kernel, case: Case, inputs: Inputs) -> dict[str, np.ndarray]:
    """Outputs of the period's last time. Raises KernelRaised, Inapplicable for a function that needs too much for so many."""
    started = time.process_time()
    _run(kernel, case, inputs, _FEW)
    if (time.process_time() - started) * _TIMES / _FEW > _SECONDS:
        raise Inapplicable(f"takes more than {_SECONDS:.0f} s for so many tokens")
    outputs = _run(kernel, case, inputs, _TIMES)
    return {**outputs, "o": outputs["o"][:, -_PERIOD:]}


def _run(kernel: Kernel, case: Case, inputs: Inputs, times: int) -> dict[str, np.ndarray]:
    problem = replace(case.problem, T=_PERIOD * times)
    many = take_tokens(inputs, np.tile(np.arange(_PERIOD), times))
    made = execute.tensors(problem, many)
    try:
        with _little_memory():
            return execute.as_numpy(execute.run(kernel, replace(case, problem=problem), made, gradients=False))
    except Exception as error:
        if "can't allocate memory" in str(error) or isinstance(error, MemoryError):
            raise Inapplicable("needs more than 1 GB for so many tokens") from None
        raise


@contextlib.contextmanager
def _little_memory() -> Iterator[None]:
    """Allocations fail once the process has a little more memory than now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = now + _BYTES if soft == resource.RLIM_INFINITY else min(soft, now + _BYTES)
    resource.setrlimit(resource.RLIMIT_AS, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
