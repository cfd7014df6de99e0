"""Judge a `Stage`: somebody's kernel, compared with a reference of its own on calls of its own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from ..cases import profiles
from ..cases.cell import Cell
from ..cases.replay import StageReplay
from ..targets.stage import Stage
from ..verdicts.judgement import Counterexample, Verdict, is_compiled
from ..verdicts.outcome import KernelRaised, Outcome, Unsupported
from .stage_calls import Inputs, drawn, is_tensor
from .stage_checks import CHECKS, EMPTY, StageJudge

RULE = "its reference"
"""In place of a rule in verdicts."""
_MORE = 4
"""Times the draws of a cell of the family: a stage costs less than an op."""


def cells(target: str, stages: Mapping[str, Stage], properties: Any, device: str) -> list[Cell]:
    """What is judged of stages on a device: equality in the interpreter alone, determinism as compiled alone."""
    left_out = "equality" if is_compiled(device) else "determinism"
    return [
        Cell(target=target, kernel=name, rule=RULE, property=prop)
        for prop in CHECKS if prop in properties and prop != left_out
        for name in stages
    ]  # fmt: skip


def judge_stage(
    cell: Cell, stage: Stage, *, profile: str, seed: int, tau: float, device: str, on_case: Callable[[str], object],
    only: int | None = None,
) -> Verdict:  # fmt: skip
    """The verdict of a cell of a stage; only: on the call of this seed alone."""
    started = time.monotonic()
    judge = StageJudge(stage=stage, name=cell.kernel, tau=tau, device=device)
    check = partial(CHECKS[cell.property], judge)
    first = 1000 * seed
    seeds = range(first, first + _MORE * profiles.named(profile).examples) if only is None else [only]
    facts: set[str] = set()
    answers: dict[int, Outcome] = {}
    sizes: dict[int, int] = {}
    for one in seeds:
        on_case(_token(cell, one))
        inputs = drawn(stage, one)
        sizes[one] = sum(x.numel() for x in inputs.values() if is_tensor(x))
        answers[one] = _answer(check, inputs, one, facts)
    found = {one: answer for one, answer in answers.items() if answer.status in ("held", "failed")}
    bad = min((one for one, answer in found.items() if answer.status == "failed"), key=sizes.__getitem__, default=None)
    others = dict.fromkeys(answer.message for answer in answers.values() if answer.status not in ("held", "failed"))
    status = "failed" if bad is not None else "held" if found else "unsupported"
    if found:
        others.pop(EMPTY, None)  # the other calls were judged
    if status == "held" and cell.property == "memory" and device == "interpreter" and not _launched(facts):
        status, others = "inapplicable", {"runs no Triton kernels, whose addresses could be checked": None}
    outcome = None if bad is None else answers[bad]
    return Verdict(
        kernel=cell.kernel, rule=cell.rule, target=cell.target, property=cell.property,
        arithmetic=_arithmetic(cell.property, device), status=status, problems=len(found),
        seconds=round(time.monotonic() - started, 3), kind=outcome.kind if outcome else None,
        worst_ratio=max((a.ratio for a in found.values() if a.ratio is not None), default=None),
        counterexample=None if bad is None or outcome is None else _counterexample(cell, stage, bad, outcome),
        notes=tuple(others), covered=tuple(sorted(facts)),
    )  # fmt: skip


def _answer(check: Callable[..., Outcome], inputs: Inputs, seed: int, facts: set[str]) -> Outcome:
    from ..interpreter.covering import covering

    try:
        with covering() as met:
            answer = check(inputs, seed)
    except Unsupported as reason:
        return Outcome(status="unsupported", message=str(reason))
    except KernelRaised as error:
        return Outcome(status="failed", kind=error.kind, message=str(error), cause=error.cause)
    facts |= met
    return answer


def _launched(facts: set[str]) -> bool:
    return any(fact.startswith("ran ") for fact in facts)


def _counterexample(cell: Cell, stage: Stage, seed: int, outcome: Outcome) -> Counterexample:
    inputs = drawn(stage, seed)
    place = outcome.place
    return Counterexample(
        problem=", ".join(f"{name}={_words(x)}" for name, x in inputs.items()), config="-", message=outcome.message,
        replay=_token(cell, seed), tensor=place.tensor if place else None, index=place.index if place else None,
        expected=outcome.expected, got=outcome.got,
    )  # fmt: skip


def _token(cell: Cell, seed: int) -> str:
    return StageReplay(prop=cell.property, kernel=cell.kernel, seed=seed).token


def _words(x: Any) -> str:
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}" if is_tensor(x) else f"{x!r:.40}"


def _arithmetic(prop: str, device: str) -> Any:
    if is_compiled(device):
        return device
    return {"equality": "exact", "error": "faithful", "memory": "bounds"}[prop]
