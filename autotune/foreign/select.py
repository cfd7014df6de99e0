"""From the best configurations to the best that passed the gate: one that fails is refused, and the next takes its place."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ...verify.targets.tuners import LaunchChoice
from .cache_keys import CacheKeyGroup, Place
from .compile import CompileTask
from .questions import CallAnswer, CallQuestion, Judge, Site

Seen = Callable[[LaunchChoice], Hashable]
"""As much of a configuration as the judge can see: configurations that it cannot tell apart are refused together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A choice that will not be written for a kernel, and the reason.

    group: its place among the groups. choice: as the judge sees it. call: that failed. rule, detail: of the answer. instead: a
    choice with which the call is right, where one was found. everything: nor will any other be written.
    """

    kernel: str
    group: int
    choice: Any
    call: Any
    rule: str
    detail: str
    instead: Any = None
    everything: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SelectionOutcome:
    """chosen: by the place of the group. answers: the last word on each call of a chosen configuration.

    tried: groups and choices that were judged in order to be written.
    """

    chosen: Mapping[int, CompileTask]
    answers: Mapping[Any, CallAnswer]
    tried: frozenset[tuple[int, Hashable]]
    refused: Sequence[Refusal]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fault:
    """The answer that shows the fault of a choice, and a right choice instead, if one is known."""

    answer: CallAnswer
    instead: Any = None


def select(
    groups: Sequence[CacheKeyGroup], tasks: Sequence[CompileTask], judge: Judge, seen: Seen = lambda choice: choice
) -> SelectionOutcome:
    """Judge the best of every group together, call by call; where a call fails, find out whose fault it is, and go on.

    tasks: every configuration that is offered; a kernel that has nothing to choose from runs in one of them. An answer that
    cannot be told does not speak against a configuration.
    """
    offered: dict[Any, dict[Site, list[Hashable]]] = {}
    for task in sorted(tasks, key=lambda task: task.place):
        offered.setdefault(task.call, {}).setdefault((task.kernel, task.order), []).append(seen(task.choice))
    group_of = {place: number for number, group in enumerate(groups) for place in group.places}
    refused: dict[tuple[int, Hashable], Refusal] = {}
    tried: set[tuple[int, Hashable]] = set()
    while True:
        chosen = {
            number: best
            for number, group in enumerate(groups)
            if (best := next((task for task in group.ranked if (number, seen(task.choice)) not in refused), None))
        }
        serving = {number: seen(task.choice) for number, task in chosen.items()}
        wanted = sorted({call for number in chosen for call, _, _ in groups[number].places})
        questions = [_question(call, offered[call], group_of, serving, refused) for call in wanted]
        tried.update(serving.items())
        answers = judge(questions)
        # One call at a time: the next choice may be right for the others, too.
        failed = next((question for question in questions if answers[question].held is False), None)
        if failed is None:
            return SelectionOutcome(
                chosen=chosen, answers={question.call: answers[question] for question in questions},
                tried=frozenset(tried), refused=list(refused.values()),
            )  # fmt: skip
        sites = {site: number for site, _ in failed.choices if (number := group_of[failed.call, *site]) in chosen}
        found = _faults(failed, answers[failed], offered[failed.call], judge)
        blamed = {site: fault for site, fault in found.items() if site in sites}
        for site, fault in (blamed or dict.fromkeys(sites, _Fault(answer=answers[failed]))).items():
            number = sites[site]
            # A call that fails with every choice leaves nothing to choose from.
            some = [serving[number]] if blamed else [seen(task.choice) for task in groups[number].ranked]
            for choice in some:
                one = Refusal(
                    kernel=site[0], group=number, choice=choice, call=failed.call, rule=fault.answer.rule,
                    detail=fault.answer.detail, instead=fault.instead, everything=not blamed,
                )  # fmt: skip
                refused.setdefault((number, choice), one)


def _question(
    call: Any, offered: Mapping[Site, Sequence[Hashable]], group_of: Mapping[Place, int], serving: Mapping[int, Hashable],
    refused: Mapping[tuple[int, Hashable], Refusal],
) -> CallQuestion:  # fmt: skip
    """The choices that will be served to a call."""
    choices = {}
    for site, some in offered.items():
        number = group_of[call, *site]
        others = (choice for choice in some if (number, choice) not in refused)
        choices[site] = serving[number] if number in serving else next(others, some[0])
    return CallQuestion.of(call, choices)


def _faults(
    question: CallQuestion, answer: CallAnswer, offered: Mapping[Site, Sequence[Hashable]], judge: Judge
) -> dict[Site, _Fault]:
    """Whose choices are at fault, and why; none where the call fails with every choice.

    The answer may name its kernel. Otherwise, one fault is found by exchanging one choice after the other, for the first that is
    offered or the last. Of several, each is tried by itself amid all of the first, or of the last, if these hold.
    """
    if answer.site is not None:
        return {answer.site: _Fault(answer=answer)}
    for end in (0, -1):
        exchanged = {
            site: question.but(site, others[end])
            for site, choice in question.choices
            if (others := [some for some in offered[site] if some != choice])
        }
        answers = judge(list(exchanged.values()))
        for site, one in exchanged.items():
            if answers[one].held:
                return {site: _Fault(answer=answer, instead=dict(one.choices)[site])}
    for end in (0, -1):
        base = CallQuestion.of(question.call, {site: some[end] for site, some in offered.items()})
        if judge([base])[base].held:
            known = dict(base.choices)
            alone = {site: base.but(site, choice) for site, choice in question.choices if choice != known[site]}
            answers = judge(list(alone.values()))
            wrong = {site: _Fault(answer=answers[one]) for site, one in alone.items() if not answers[one].held}
            return wrong or dict.fromkeys(alone, _Fault(answer=answer))
    return {}
