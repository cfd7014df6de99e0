"""The smallest relative error at one token that the error budgets see, by tensor and dtype.

Two questions, no kernel involved. Of an output: by what factor must one row be wrong before it leaves its budget? Of an input:
how wrong may a kernel read one token's value before some output leaves its budget? A wrong gate or a lost digit has the second
effect, which is measured for others' tolerances too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from ...specs.budget import Budget, budget
from ...specs.inputs.make import Inputs, generate
from ...specs.oracle.options import stored_at
from ...specs.oracle.recurrence import solve
from ...specs.problem import DType, Problem
from ...specs.rule import RULES
from .peers import RULES_OF_OTHERS, Accepts

DTYPES: tuple[DType, ...] = ("fp32", "bf16", "fp16")
INPUTS = ("q", "k", "v", "g", "b", "w")
_STEPS = 24
"""Halvings of the relative error, from 1 down."""


def problems(dtype: DType) -> list[Problem]:
    """Ordinary inputs, two sizes: the smallest visible error in a hard regime depends on the regime."""
    base = Problem(rule=RULES["gdn2"], dtype=dtype, T=96, H=2, HV=2, K=32, V=32, seed=0)
    return [base, replace(base, T=65, H=1, HV=2, K=24, V=17, seed=1)]


def of_outputs(dtype: DType, tau: float) -> dict[str, dict[str, float]]:
    """Output -> the smallest relative error of one row that is seen: at the best row, at half of the rows, at all."""
    found: dict[str, list[float]] = {}
    for problem in problems(dtype):
        allowed = budget(problem, generate(problem))
        for name, truth in allowed.reference.items():
            stored = allowed.contract.at(stored_at(name)).amplitude(truth) / np.sqrt(3)
            sigma = np.maximum(allowed.sigma[name], stored)
            size, spread = np.linalg.norm(truth, axis=-1), np.linalg.norm(sigma, axis=-1)
            found.setdefault(name, []).extend((tau * spread[size > 0] / size[size > 0]).tolist())
    return {name: {"least": min(x), "median": median(x), "largest": max(x)} for name, x in found.items()}


def of_inputs(dtype: DType, tau: float) -> dict[str, dict[str, float | None]]:
    """Input -> by rule of judging, the smallest relative error of it at one token that is seen; None where not even 1 is."""
    found: dict[str, dict[str, list[float]]] = {}
    for problem in problems(dtype):
        inputs = generate(problem)
        allowed = budget(problem, inputs)
        rules: dict[str, Callable[[Mapping[str, np.ndarray]], bool]] = {
            "budget": lambda outputs, allowed=allowed: _within(outputs, allowed, tau),
            **{name: _by(accepts, allowed) for name, accepts in RULES_OF_OTHERS.items() if "2x" not in name},
        }
        for name in INPUTS:
            for token in (3, problem.T // 2):
                seen = _smallest(problem, inputs, name, token, rules)
                for rule, least in seen.items():
                    found.setdefault(name, {}).setdefault(rule, []).append(least)
    return {name: {rule: _number(median(x)) for rule, x in rules.items()} for name, rules in found.items()}


def _smallest(
    problem: Problem, inputs: Inputs, name: str, token: int, rules: Mapping[str, Callable[..., bool]]
) -> dict[str, float]:
    """By rule, the last of the halved errors that it sees; infinity if it sees none. Errors shrink until none is seen."""
    found = dict.fromkeys(rules, float("inf"))
    left = set(rules)
    for step in range(_STEPS + 1):
        error = 2.0**-step
        x = getattr(inputs, name).copy()
        x[:, token] *= 1 + error
        outputs = solve(problem, replace(inputs, **{name: x}))
        for rule in sorted(left):
            if rules[rule](outputs):
                left.discard(rule)
            else:
                found[rule] = error
        if not left:
            break
    return found


def _within(outputs: Mapping[str, Any], allowed: Budget, tau: float) -> bool:
    return all(rows.size == 0 or rows.max() <= tau for rows in allowed.ratios(outputs).values())


def _by(accepts: Accepts, allowed: Budget) -> Callable[[Mapping[str, np.ndarray]], bool]:
    return lambda outputs: all(accepts(name, outputs[name], x, x) for name, x in allowed.reference.items())


def _number(x: float) -> float | None:
    return None if np.isinf(x) else x


def record(tau: float, dtypes: Sequence[DType] = DTYPES) -> dict[str, Any]:
    """Both tables, for the report."""
    return {
        "about": "smallest relative error at one token that is seen; gdn2, ordinary inputs",
        "outputs": {dtype: of_outputs(dtype, tau) for dtype in dtypes},
        "inputs": {dtype: of_inputs(dtype, tau) for dtype in dtypes},
    }
