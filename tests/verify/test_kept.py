"""What a call keeps for its backward pass is a way to make the call, and is judged where a kernel has the choice."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from deltaproof.kernels import gated_delta_rule
from deltaproof.specs.problem import Problem
from deltaproof.verify.cases.call_styles import meaning, styles
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import load
from deltaproof.verify.run.judge import judge_case
from deltaproof.verify.targets.convention import Convention, adapt
from tests.helpers.wrong_kernels import TORCH, on_gradient, spoil

PROBLEM = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
KEEPING = {"disable_recompute": True}


def stale(right: Any, arguments: dict[str, Any]) -> Any:
    """A gradient that is wrong where something was kept."""
    change = on_gradient("k", lambda gradient: 2 * gradient) if arguments.get("disable_recompute") else None
    return right(**arguments) if change is None else change(right, arguments)


@pytest.mark.parametrize(
    ("kernel", "style", "expected"),
    [
        (replace(TORCH, keeping=KEEPING), "kept", "held"),
        (replace(spoil(TORCH, stale), keeping=KEEPING), "kept", "failed"),
        (replace(spoil(TORCH, stale), keeping=KEEPING), "kept+checkpoint", "failed"),
        (replace(spoil(TORCH, stale), keeping=KEEPING), "", "held"),
        (TORCH, "kept", "inapplicable"),
    ],
)
def test_it_is_judged_where_there_is_the_choice(kernel: Any, style: str, expected: str):
    case = Case(problem=PROBLEM, config=kernel.configs(PROBLEM)[0], style=style)
    assert judge_case(load("call_styles"), case, Harness(kernel=kernel, tau=20.0)).status == expected


def test_it_costs_no_calls():
    assert len(styles(keeps=True)) <= len(styles())
    assert "kept from the forward pass" in meaning("kept")


def test_functions_of_others_have_the_choice_where_they_take_the_keyword():
    seen: list[bool] = []

    def theirs(
        q: torch.Tensor,
        k: torch.Tensor,
        v: torch.Tensor,
        g: torch.Tensor,
        b: torch.Tensor,
        disable_recompute: bool = False,
    ) -> Any:
        seen.append(disable_recompute)
        return gated_delta_rule(q, k, v, g, b)

    convention = Convention(rules=("gdn",))
    kernel = adapt(theirs, convention)
    assert kernel.keeping == KEEPING
    assert not adapt(lambda q, k, v, g, b: theirs(q, k, v, g, b), convention).keeping
    call = {name: torch.zeros(1, 2, 1, 3) for name in "qkv"} | {name: torch.zeros(1, 2, 1) for name in "gb"}
    kernel.run(**call, **kernel.keeping)
    kernel.run(**call)
    assert seen == [True, False]
