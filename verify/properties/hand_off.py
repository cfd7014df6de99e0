"""Split every sequence anywhere and pass the state on: forward through ht and h0, backward through dh0 and dht."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ..cases.case import Case
from ..cases.rearrange import join_tokens, take_tokens
from ..execution.budget_cache import cached_budget
from ..execution.compare import unequal
from ..execution.contracts import contract_of
from ..execution.harness import Harness, field_inputs
from ..verdicts.outcome import Outcome, held, place
from .base import Property
from .error import worst_row


def check(case: Case, harness: Harness) -> Outcome:
    """The split is drawn from the seed; one part may be empty."""
    problem = case.problem
    inputs = generate(problem) if harness.simulated else field_inputs(problem)
    heads, tails = _split(problem)
    first = replace(case, problem=_part(problem, heads, final_state=True))
    second = replace(case, problem=_part(problem, tails, initial_state=True))
    harness.require(first.problem)
    harness.require(second.problem)
    before, after = _positions(problem, heads, tails)

    if harness.simulated:
        return _rounded(
            case, harness, (first, second), (before, after), f"split after {', '.join(map(str, heads))} tokens"
        )
    state = harness.exact(first, replace(take_tokens(inputs, before), dht=None), gradients=False).outputs["ht"]
    y = harness.exact(second, replace(take_tokens(inputs, after), h0=state)).outputs
    x = harness.exact(
        first,
        replace(take_tokens(inputs, before), dht=y.get("dh0")),
        gradients=harness.kernel.differentiable,
    ).outputs

    joined: dict[str, Any] = join_tokens([x, y], [before, after])
    joined |= {"ht": y["ht"]} if "ht" in y else {}
    joined |= {"dh0": x["dh0"]} if "dh0" in x else {}
    whole = harness.exact(case, inputs).outputs
    at = ", ".join(map(str, heads))
    return unequal(problem, whole, joined, f"split after {at} tokens and handed on", "structure") or held()


def _rounded(
    case: Case, harness: Harness, parts: tuple[Case, Case], at: tuple[np.ndarray, np.ndarray], what: str
) -> Outcome:
    """Compiled code rounds in other places when chunks begin elsewhere: the two parts must keep the budget of the whole."""
    (first, second), inputs = parts, generate(case.problem)
    before, after = (take_tokens(inputs, where) for where in at)
    wanted = harness.kernel.differentiable
    state = harness.faithful(first, replace(before, dht=None))["ht"]
    y = harness.faithful(second, replace(after, h0=state.astype(np.float64)), gradients=wanted)
    handed = None if "dh0" not in y else y["dh0"].astype(np.float64)
    x = harness.faithful(first, replace(before, dht=handed), gradients=wanted)
    joined: dict[str, Any] = join_tokens([x, y], list(at))
    joined |= {"ht": y["ht"]} if "ht" in y else {}
    joined |= {"dh0": x["dh0"]} if "dh0" in x else {}
    budget = cached_budget(case.problem, contract_of(harness.kernel, case))
    known = {name: joined[name] for name in budget.reference if name in joined}
    worst = worst_row(known, budget)
    if worst is None or worst.ratio <= harness.tau:
        return held(0.0 if worst is None else worst.ratio / harness.tau)
    return Outcome(
        status="failed", kind="structure", ratio=worst.ratio / harness.tau, place=place(case.problem, worst.tensor, worst.index),
        expected=worst.expected, got=worst.got,
        message=f"{what} and handed on, {worst.tensor} is {worst.ratio / harness.tau:.3g} times the budget of the whole",
    )  # fmt: skip


def _split(problem: Problem) -> tuple[list[int], list[int]]:
    """Tokens of every sequence before and after its split. A plain batch has one split, since its rows are equal."""
    rng = np.random.default_rng((problem.seed, 2))
    lengths = [problem.T] if problem.lengths is None else list(problem.lengths)
    heads = [int(rng.integers(0, length + 1)) for length in lengths]
    return heads, [length - head for length, head in zip(lengths, heads, strict=True)]


def _part(problem: Problem, lengths: list[int], **options: Any) -> Problem:
    packed = {} if problem.lengths is None else {"lengths": tuple(lengths)}
    return replace(problem, T=sum(lengths), **packed, **options)


def _positions(problem: Problem, heads: list[int], tails: list[int]) -> tuple[np.ndarray, np.ndarray]:
    starts = np.cumsum([0, *(head + tail for head, tail in zip(heads, tails, strict=True))])[:-1]
    before = [np.arange(start, start + head) for start, head in zip(starts, heads, strict=True)]
    after = [
        np.arange(start + head, start + head + tail) for start, head, tail in zip(starts, heads, tails, strict=True)
    ]
    empty = [np.arange(0)]
    return np.concatenate(before + empty).astype(np.int64), np.concatenate(after + empty).astype(np.int64)


HAND_OFF = Property(
    name="hand_off",
    says="splitting a sequence anywhere and passing the state on changes nothing",
    arithmetic="exact",
    kind="structure",
    catches=("initial or final state", "state gradients", "partial last chunk", "prefill and decode disagree"),
    check=check,
    calls=4,
    as_compiled=True,
)
