"""A call gives the results of the recurrence in every style: any layout, any set of gradients, any calls in between."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...specs.arithmetic.field import FIELD, FieldArray, constant
from ...specs.budget import budget
from ...specs.inputs.make import Inputs, generate
from ...specs.oracle.recurrence import solve
from ..cases.call_styles import AXES, meaning, words
from ..cases.replay import Case
from ..cases.variations import shortened, varied, widened
from ..execution.compare import different_bits, unequal
from ..execution.contracts import contract_of
from ..execution.execute import as_numpy, payloads
from ..execution.harness import Harness, field_inputs
from ..execution.styles import endless, second_derivative, styled
from ..execution.styles.surroundings import REFUSABLE, compiled
from ..interpreter.tuned import tuning
from ..verdicts.outcome import Inapplicable, KernelRaised, Outcome, Unsupported, held, place
from .base import Property
from .error import worst_row

_SALT = 7
"""Draws the values of the call in between."""


_BY_BUDGET = frozenset(("fp32_gates", "each_alone", *REFUSABLE))
"""Words that mean other types, or many calls: whoever takes one for another is far off."""


def check(case: Case, harness: Harness) -> Outcome:
    """By equality in exact arithmetic. Types that are mixed, and functions that exact arithmetic has no word for, by budget."""
    chosen = set(words(case.style))
    if "kept" in chosen and not harness.kernel.keeping:
        raise Inapplicable("has no choice of what it keeps for its backward pass")
    if "varied" in chosen:
        return _one_after_the_other(case, harness)
    if "again" in chosen:
        return _once_more(case, harness)
    if "endless" in chosen:
        return _at_the_end_of_many(case, harness)
    if "second" in chosen:
        return _derived_twice(case, harness)
    if chosen & {*AXES["tuning"]}:
        return _in_every_configuration(case, harness)
    if chosen & {"each_alone", *AXES["surroundings"]}:
        case = shortened(case, harness.kernel)
    if "compiled" in chosen:
        if harness.kernel.needs_triton:
            raise Inapplicable("its kernels run in an interpreter, which no compiler traces")
        return _judged(case, harness.with_kernel(compiled(harness.kernel)))
    if "threads" in chosen:
        # State that is kept by thread is made by the first one.
        plain = _judged(replace(case, style=""), harness)
        if plain.status != "held":
            return plain
    return _judged(case, harness)


def _judged(case: Case, harness: Harness) -> Outcome:
    if _BY_BUDGET & set(words(case.style)):
        return _within_budget(case, harness)
    try:
        return _equal(case, harness)
    except Unsupported:
        return _within_budget(case, harness)


def _one_after_the_other(case: Case, harness: Harness) -> Outcome:
    """State that a kernel keeps of one call must not serve another call that differs from it in one thing."""
    for turn in (-1, 0):
        with tuning("remembered", turn) as now:
            for one in varied(case, harness.kernel):
                found = _within_budget(one, harness)
                if found.status != "held":
                    among = f"one of {meaning(case.style)}, {one.problem.token} in {one.config_token}, "
                    return replace(found, message=f"{among}{found.message}", place=None, expected=None, got=None)
        if now.most < 2:
            break  # nothing is tuned that could be remembered
    return held()


def _once_more(case: Case, harness: Harness) -> Outcome:
    """Of a call that is right: noise may lie within every budget."""
    plain, inputs = replace(case, style=""), generate(case.problem)
    first, again = (harness.faithful(plain, inputs, gradients=harness.kernel.differentiable) for _ in range(2))
    found = different_bits(case.problem, first, again, meaning(case.style), "nondeterminism")
    return found or held()


def _derived_twice(case: Case, harness: Harness) -> Outcome:
    few = replace(case, problem=second_derivative.small(case.problem), style="")
    harness.require(few.problem)
    name = harness.watched(lambda: second_derivative.wrong(harness.kernel, few, generate(few.problem)))
    if name is None:
        return held()
    return Outcome(
        status="failed", kind="structure", cause="second derivative",
        message=f"{meaning(case.style)} are given, and are wrong: differentiated again by {name}",
    )  # fmt: skip


def _at_the_end_of_many(case: Case, harness: Harness) -> Outcome:
    """The last of many tokens, which do not depend on those before them, have the results that they have alone."""
    few, inputs = endless.period(case, harness.kernel)
    outputs = endless.last_of_many(harness.kernel, few, inputs)
    allowed = budget(few.problem, inputs, contract_of(harness.kernel, few))
    worst = worst_row(outputs, allowed)
    if worst is None or worst.ratio <= harness.tau:
        return held()
    return Outcome(
        status="failed", kind="structure", cause="limit of tokens",
        message=f"with {meaning(case.style)} the last ones, for which no other counts, are not what they are alone: "
        f"{worst.tensor} is {worst.ratio:.3g} sigma off",
    )  # fmt: skip


def _in_every_configuration(case: Case, harness: Harness) -> Outcome:
    """With few channels, and then with more than the tiles of some configurations have."""
    with tuning("usual") as now:
        found = _judged(case, harness)
    wide = widened(case, harness.kernel) if now.most > 1 else None
    return found if wide is None or found.status != "held" else _judged(wide, harness)


def _equal(case: Case, harness: Harness) -> Outcome:
    inputs = styled.posed(case, field_inputs(case.problem), lambda x: constant(1.0).broadcast_to(x.shape).copy())
    expected = styled.merged(case, solve(case.problem, _pulled(case, inputs, lambda x: x * 0.0), FIELD))
    for answer in harness.styled(case, inputs, field_inputs(case.problem, salt=_SALT), exact=True):
        got = {name: FieldArray(bits) for name, bits in payloads(answer.outputs).items()}
        known = {name: expected[name] for name in got}
        if wrong := unequal(case.problem, known, got, f"{_how(case)}{answer.said}", "structure"):
            return replace(wrong, cause="style")
    return held()


def _within_budget(case: Case, harness: Harness) -> Outcome:
    problem = case.problem
    chosen = set(words(case.style))
    if {"fp32_gates", "autocast"} & chosen:
        problem = replace(problem, dtype="bf16")
        if harness.kernel.accepts(problem) is not True:
            raise Inapplicable("takes no inputs of 16 bits")
        if "fp32_gates" in chosen and not {"b", "w"} & set(problem.rule.gates):
            raise Inapplicable("has no gates beside inputs of 16 bits")
        case = replace(case, problem=problem)
    inputs = styled.posed(case, generate(problem), np.ones_like)
    others = generate(replace(problem, seed=problem.seed + 1))
    allowed = budget(problem, _pulled(case, inputs, lambda x: 0 * x), contract_of(harness.kernel, case))
    parts = (allowed.reference, allowed.sigma, allowed.replicas)
    # Two gradients that are added: so are their errors, replica by replica.
    if "q_is_k" in words(case.style) and "dq" in allowed.reference:
        reference, _, replicas = (styled.merged(case, part) for part in parts)
        spread = np.sqrt(np.mean((replicas["dq"] - reference["dq"]) ** 2, axis=0))
        allowed = replace(allowed, reference=reference, sigma={**allowed.sigma, "dq": spread})
    try:
        answers = harness.styled(case, inputs, others, exact=False)
    except KernelRaised as error:
        if error.kind == "contract" and "fp32_gates" in chosen:
            raise Inapplicable("refuses gates in fp32 beside inputs of 16 bits") from None
        if "raised in its" in str(error) and REFUSABLE & chosen:
            raise Inapplicable(f"refuses a call with {meaning(case.style)}") from None
        raise
    for answer in answers:
        worst = worst_row(as_numpy(answer.outputs), allowed)
        if worst is not None and not worst.ratio <= harness.tau:
            return Outcome(
                status="failed", kind="precision" if problem.dtype != "fp32" else "instability", cause="style",
                place=place(problem, worst.tensor, worst.index), expected=worst.expected, got=worst.got,
                message=f"{_how(case)}{answer.said}: {worst.tensor} is {worst.ratio:.3g} sigma off",
            )  # fmt: skip
    return held()


def _how(case: Case) -> str:
    return f"with {meaning(case.style)}" if case.style else "a plain call"


def _pulled(case: Case, inputs: Inputs, nothing: Any) -> Inputs:
    """Inputs whose gradients are 0 where none is pulled back."""
    into_o, into_ht = styled.pulls(case)
    return replace(
        inputs,
        do=inputs.do if into_o else nothing(inputs.do),
        dht=inputs.dht if into_ht or inputs.dht is None else nothing(inputs.dht),
    )


CALL_STYLES = Property(
    name="call_styles",
    says="layouts, frozen inputs, partial and repeated backward passes and calls in between change nothing",
    arithmetic="exact",
    kind="structure",
    catches=(
        "stride of a channel",
        "gradient of a frozen input",
        "state of another call",
        "second backward pass",
        "autotuned kernel",
    ),
    check=check,
    uses_oracle=True,
    styles=True,
    calls=1.5,
)
