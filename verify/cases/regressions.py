"""Edge cases that broke implementations of this family, as explicit problems, judged before anything is drawn."""

from __future__ import annotations

from typing import Any

from ...specs.inputs.regimes import REGIMES
from ...specs.problem import Problem
from ...specs.rule import Rule

REGRESSIONS: dict[str, dict[str, Any]] = {
    "grouped heads, ragged tiles": {"T": 33, "H": 2, "HV": 4, "K": 24, "V": 17, "gate_heads": "key", "seed": 1},
    "empty sequences first, between and last": {"T": 36, "lengths": (0, 17, 0, 18, 1, 0), "K": 16, "V": 16, "seed": 2},
    "a last chunk of one token": {"T": 65, "K": 16, "V": 20, "seed": 3},
    "a reset to nothing inside a chunk": {"T": 40, "K": 16, "V": 16, "regime": "reset_inf", "seed": 9},
    "a reset to nearly nothing inside a chunk": {"T": 40, "K": 16, "V": 16, "regime": "reset", "seed": 10},
    "decode: one token, with a state": {"B": 2, "T": 1, "K": 32, "V": 16, "seed": 4},
    "gate and normalisation in the kernel": {"T": 18, "H": 1, "HV": 2, "K": 17, "V": 16, "qk_l2norm": True,
                                             "gate_in_kernel": True, "seed": 5},
    "no states, scale of one": {"B": 2, "T": 17, "K": 16, "V": 31, "initial_state": False, "final_state": False,
                                "scale": 1.0, "seed": 6},
    "strided views": {"B": 2, "T": 20, "H": 2, "HV": 2, "K": 20, "V": 12, "strided": True, "seed": 7},
    "every gate at -11, a single block": {"T": 16, "K": 16, "V": 16, "regime": "strong", "seed": 1},
    "every gate at -20": {"T": 48, "K": 16, "V": 16, "regime": "strong", "seed": 8},
    "nearly collinear keys": {"T": 70, "K": 16, "V": 16, "regime": "collinear", "seed": 11},
    "zero keys, normalised": {"T": 9, "K": 16, "V": 16, "qk_l2norm": True, "regime": "zero_keys", "seed": 12},
    "nothing at all": {"T": 0, "K": 16, "V": 16},
}  # fmt: skip
"""Name -> fields of the problem that differ from the defaults."""


def problems(rule: Rule) -> dict[str, Problem]:
    """The regressions for one rule, fp32. Entries on an option that the rule lacks are kept without it, or left out."""
    found: dict[str, Problem] = {}
    for name, fields in REGRESSIONS.items():
        settings = dict(fields)
        if rule.decay == "none":
            settings.pop("gate_in_kernel", None)
        if not REGIMES[settings.get("regime", "ordinary")].applies(rule):
            continue
        found[name] = Problem(rule=rule, **settings)
    return found
