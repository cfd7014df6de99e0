"""A call with tied gates equals the general call with gates written out; its gradients are sums of the general ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ...kernels.registry import Kernel
from ...specs.arithmetic.field import FieldArray, constant, constant_bits, random
from ...specs.inputs.make import Inputs
from ...specs.problem import Problem
from ...specs.rule import RULES
from ..cases.replay import Case
from ..execution.compare import unequal
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, held
from .base import Property

GENERAL = RULES["gdn2"]


def check(case: Case, harness: Harness) -> Outcome:
    """All calls go to the same kernel, in the same configuration."""
    problem, inputs = case.problem, field_inputs(case.problem)
    tied = harness.exact(case, inputs).outputs
    general = harness.exact(replace(case, problem=replace(problem, rule=GENERAL)), expand(problem, inputs)).outputs
    expected = collect(problem, general)
    if wrong := unequal(problem, expected, tied, "not the general rule with its gates written out", "structure"):
        return wrong
    if problem.rule.erase == "scalar" and problem.rule.write == "tied" and not harness.kernel.foreign:
        return _with_write(case, harness, inputs, tied)
    return held()


def _with_write(case: Case, harness: Harness, inputs: Inputs, tied: dict[str, FieldArray]) -> Outcome:
    """A write gate of its own beside an erase gate per head, which no rule has and our op takes: w v stays b v."""
    problem = case.problem
    assert inputs.b is not None
    b = _to_value_heads(problem, inputs.b)[..., None]
    w = _units((problem.B, problem.T, problem.HV, problem.V), problem.seed)
    other = replace(inputs, w=w, v=inputs.v * b / w)
    rule = replace(problem.rule, write="channel")
    written = harness.exact(replace(case, problem=replace(problem, rule=rule)), other).outputs
    expected = dict(written)
    if "dw" in written:
        gradient = written["dv"] / w  # of w v
        message = "the gradient of the write gate is not that of the values"
        if wrong := unequal(problem, {"dw": gradient * other.v}, written, message, "structure"):
            return wrong
        del expected["dw"]
        expected["dv"] = gradient * b
        expected["db"] = written["db"] + _sum_value_heads(problem, (gradient * inputs.v).sum(-1))
    return unequal(problem, expected, tied, "not the same with a write gate of its own", "structure") or held()


def _units(shape: tuple[int, ...], seed: int) -> FieldArray:
    """Elements drawn from the field that have an inverse."""
    drawn = random(np.random.default_rng((seed, 1)), shape)
    return FieldArray(np.where(drawn == constant(0.0), constant_bits(1.0), drawn.bits))


def expand(problem: Problem, inputs: Inputs) -> Inputs:
    """Inputs of the general rule that mean the same: absent decay and erase are 0, an absent write gate is 1 or b."""
    rule, K, V = problem.rule, problem.K, problem.V
    rows = (problem.B, problem.T)
    keys, values = (*rows, problem.gate_rows, K), (*rows, problem.HV, V)
    g, b, w = inputs.g, inputs.b, inputs.w
    if w is None:
        w = constant(1.0) if b is None else _to_value_heads(problem, b)
    bias = inputs.dt_bias
    if bias is not None and rule.decay == "scalar":
        bias = bias[:, None].broadcast_to((problem.gate_rows, K)).reshape((-1,))
    return replace(
        inputs,
        g=_wide(constant(0.0) if g is None else g, rule.decay == "scalar", keys),
        b=_wide(constant(0.0) if b is None else b, rule.erase == "scalar", keys),
        w=_wide(w, w.ndim == 3, values),
        dt_bias=bias,
    )


def collect(problem: Problem, general: dict[str, FieldArray]) -> dict[str, FieldArray]:
    """Sum the general gradients over the channels that the rule ties."""
    rule, tied = problem.rule, dict(general)
    if "dw" not in general:
        return tied
    if rule.decay == "none":
        del tied["dg"]
    elif rule.decay == "scalar":
        tied["dg"] = general["dg"].sum(-1)
        if "ddt_bias" in general:
            tied["ddt_bias"] = general["ddt_bias"].reshape((problem.gate_rows, problem.K)).sum(-1)
    if rule.write == "tied":
        del tied["dw"]
    elif rule.write == "scalar":
        tied["dw"] = general["dw"].sum(-1)
    if rule.erase == "none":
        del tied["db"]
    elif rule.erase == "scalar":
        tied["db"] = general["db"].sum(-1)
        if rule.write == "tied":
            tied["db"] = tied["db"] + _sum_value_heads(problem, general["dw"].sum(-1))
    return tied


def applies(kernel: Kernel, problem: Problem) -> str | None:
    """The kernel must take the general rule too."""
    if problem.rule == GENERAL:
        return "nothing is tied in the general rule"
    accepted = kernel.accepts(replace(problem, rule=GENERAL))
    return None if accepted is True else f"does not take the general rule: {accepted or 'not accepted'}"


def _wide(gate: FieldArray, scalar: bool, shape: tuple[int, ...]) -> FieldArray:
    return (gate[..., None] if scalar else gate).broadcast_to(shape)


def _to_value_heads(problem: Problem, gate: FieldArray) -> FieldArray:
    return gate[:, :, np.arange(problem.HV) // (problem.HV // problem.gate_rows)]


def _sum_value_heads(problem: Problem, gradient: FieldArray) -> FieldArray:
    group = problem.HV // problem.gate_rows
    return gradient.reshape((*gradient.shape[:2], problem.gate_rows, group)).sum(-1)


REDUCTION = Property(
    name="reduction",
    says="tied gates equal the general rule with its gates written out, gradients their sums",
    arithmetic="exact",
    kind="structure",
    catches=("branch on how gates are tied", "sum over a tie", "absent gate"),
    check=check,
    applies=applies,
    calls=2,
)
