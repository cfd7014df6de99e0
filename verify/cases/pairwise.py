"""Every pair of options in some problem: half of the bugs that shipped in this family needed two options at once."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from allpairspy import AllPairs

from ...specs.problem import DType, Problem
from ...specs.rule import Rule

_SHAPE = {"T": 37, "K": 20, "V": 12}
"""Three chunks of 16, the last one short, and channels that fill no tile."""

OPTIONS: dict[str, tuple[dict[str, Any], ...]] = {
    "batch": ({"B": 2}, {"lengths": (18, 0, 19)}),
    "heads": ({}, {"H": 2, "HV": 2}, {"HV": 2}, {"HV": 2, "gate_heads": "key"}),
    "initial state": ({"initial_state": True}, {"initial_state": False}),
    "final state": ({"final_state": True}, {"final_state": False}),
    "strides": ({}, {"strided": True}),
    "normalisation": ({}, {"qk_l2norm": True}),
    "gate": ({}, {"gate_in_kernel": True}, {"regime": "reset_inf"}),
    "scale": ({}, {"scale": -0.5}),
}
"""Option -> the changes that each of its values makes to a problem. A raw gate of -inf is no decay of -inf, hence one option."""


@lru_cache
def problems(rule: Rule, dtype: DType = "fp32") -> tuple[Problem, ...]:
    """Few problems in which every two values of two different options meet; a rule without decay has no gate to vary."""
    choices = [values[:1] if rule.decay == "none" and name == "gate" else values for name, values in OPTIONS.items()]
    found = []
    for seed, row in enumerate(AllPairs(choices)):
        fields = {name: value for values in row for name, value in values.items()}
        found.append(Problem(rule=rule, dtype=dtype, seed=seed, **_SHAPE, **fields))
    return tuple(found)
