"""Compare outputs: elements of the field by equality, floats by their bits. Errors are placed, not averaged."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...specs.arithmetic.field import FieldArray, same
from ...specs.problem import Problem
from ..verdicts.outcome import Outcome, place
from ..verdicts.verdict import Kind

OUTPUTS = ("o", "ht", "dq", "dk", "dv", "dg", "db", "dw", "dh0", "dA_log", "ddt_bias")
"""Every output, in the order in which an error in one spoils the next."""


def missing(expected: Mapping[str, Any], got: Mapping[str, Any]) -> Outcome | None:
    """A failure if an output that is expected is absent."""
    for name in OUTPUTS:
        if name in expected and name not in got:
            return Outcome(status="failed", kind="contract", message=f"no output {name}")
    return None


def unequal(
    problem: Problem, expected: Mapping[str, FieldArray], got: Mapping[str, FieldArray], message: str, kind: Kind
) -> Outcome | None:
    """The first element, in token order, whose field values differ; None if all outputs of `expected` agree."""
    if absent := missing(expected, got):
        return absent
    for name in OUTPUTS:
        if name not in expected:
            continue
        equal = np.asarray(same(expected[name], got[name]))
        if equal.all():
            continue
        index = _first(name, ~equal)
        share = 1 - equal.mean()
        return Outcome(
            status="failed",
            kind=kind,
            place=place(problem, name, index),
            expected=residue(expected[name][index]),
            got=residue(got[name][index]),
            message=f"{message}: {name} differs in {share:.1%} of its elements",
        )
    return None


def different_bits(
    problem: Problem,
    expected: Mapping[str, np.ndarray],
    got: Mapping[str, np.ndarray],
    message: str,
    kind: Kind,
) -> Outcome | None:
    """The first element, in token order, whose fp32 bits differ; None if there is none."""
    for name, want in expected.items():
        differs = want.view(np.uint32) != got[name].view(np.uint32)
        if differs.any():
            index = _first(name, differs)
            return Outcome(
                status="failed",
                kind=kind,
                place=place(problem, name, index),
                expected=float(want[index]),
                got=float(got[name][index]),
                message=f"{message}: {int(differs.sum())} elements of {name} changed",
            )
    return None


def residue(element: FieldArray) -> float:
    """The F_p part of one element, as a number to print; -inf, and NaN for a value that is no element, as they are."""
    bits = np.uint32(element.bits)
    return float(bits.view(np.float32)) if bits >> 31 else float(bits & 0xFFFF)


def _first(name: str, wrong: np.ndarray) -> tuple[int, ...]:
    places = np.argwhere(wrong)
    token_axis = 1 if name[-1] in "oqkvgbw" and wrong.ndim >= 3 else 0
    return tuple(int(i) for i in places[np.argmin(places[:, token_axis])])
