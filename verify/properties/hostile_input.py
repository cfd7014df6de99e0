"""Bad calls are refused with one line that names the argument: a ValueError or TypeError, before anything runs."""

from __future__ import annotations

import re
from typing import Any

from ...kernels.registry import Kernel
from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ..cases.case import Case
from ..cases.invalid_calls import BAD_CALLS, BadCall
from ..execution.contracts import is_ours
from ..execution.execute import arguments, tensors
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, held
from .base import Property


def check(case: Case, harness: Harness) -> Outcome:
    """Every row of the table that the case's call can be spoiled by."""
    good = arguments(case, tensors(case.problem, generate(case.problem)))
    for bad_call in BAD_CALLS:
        bad = bad_call.spoil(good)
        if bad is not None and (message := _complaint(harness.kernel, bad_call, bad)):
            return Outcome(status="failed", kind="contract", message=f"{bad_call.what}: {message}")
    return held()


def applies(kernel: Kernel, problem: Problem) -> str | None:
    """Who promises no such answers cannot break the promise. Without tokens there is little to spoil."""
    if not is_ours(kernel):
        return "declares no checks of its input (an argument `check_values` would)"
    return None if problem.T else "no tokens"


def _complaint(kernel: Kernel, bad_call: BadCall, arguments: dict[str, Any]) -> str | None:
    """The fault in the kernel's answer to a bad call, or None."""
    names = " or ".join(bad_call.names)
    try:
        kernel.run(**arguments)
    except (ValueError, TypeError) as error:
        text = str(error)
        if "\n" in text.strip():
            return f"the error has more than one line: {text.splitlines()[0][:100]!r}..."
        if not any(re.search(rf"\b{re.escape(name)}\b", text) for name in bad_call.names):
            return f"the error does not name {names}: {text[:200]!r}"
        return None
    except Exception as error:
        return f"{type(error).__name__} instead of a ValueError or TypeError that names {names}: {str(error)[:200]!r}"
    return f"accepted; expected a ValueError or TypeError that names {names}"


HOSTILE_INPUT = Property(
    name="hostile_input",
    says="bad calls are refused with one line that names the argument",
    arithmetic="none",
    kind="contract",
    catches=("unchecked shape, dtype, device or range", "error that helps nobody"),
    check=check,
    applies=applies,
    calls=0.5,
)
