"""From the best configurations to the best that passed the gate: what fails is refused, and the next one takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from ..foreign.cache_keys import CacheKeyGroup
from ..foreign.compile import CompileTask
from ..foreign.launches import LaunchChoice
from .call import TargetCall
from .judge import Answer, Question
from .tuners import Site

Judge = Callable[[Sequence[Question]], Sequence[Answer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A configuration that will not be written, and why. group: its place among the groups. everything: nor will any other."""

    kernel: str
    group: int
    choice: LaunchChoice
    reason: str
    everything: bool = False


@dataclass(slots=True, kw_only=True)
class Selection:
    """chosen: by the place of the group. answers: the last word on each call of a chosen configuration."""

    chosen: dict[int, CompileTask]
    answers: dict[TargetCall, Answer]
    refused: list[Refusal] = field(default_factory=list)


def select(groups: Sequence[CacheKeyGroup], tasks: Sequence[CompileTask], arch: int, judge: Judge) -> Selection:
    """Judge the best of every group together, call by call; where a call fails, find out whose fault it is, and go on.

    What can be told of no configuration is chosen as it is ranked.
    """
    offered: dict[TargetCall, dict[Site, list[LaunchChoice]]] = {}
    for task in sorted(tasks, key=lambda task: task.place):
        offered.setdefault(task.call, {}).setdefault((task.kernel, task.order), []).append(task.choice)
    group_of = {place: number for number, group in enumerate(groups) for place in group.places}
    refused: dict[tuple[int, LaunchChoice], Refusal] = {}
    while True:
        chosen = {
            number: best
            for number, group in enumerate(groups)
            if (best := next((task for task in group.ranked if (number, task.choice) not in refused), None))
        }
        wanted = sorted({call for number in chosen for call, _, _ in groups[number].places})
        questions = [_question(call, arch, offered[call], group_of, chosen) for call in wanted]
        answers = dict(zip(questions, judge(questions), strict=True))
        failed = next((question for question in questions if answers[question].held is False), None)
        if failed is None:
            return Selection(
                chosen=chosen, answers={question.call: answers[question] for question in questions},
                refused=list(refused.values()),
            )  # fmt: skip
        blamed, everything = _blamed(failed, answers[failed], offered[failed.call], judge)
        if not any(group_of[failed.call, *site] in chosen for site in blamed):
            # What is at fault has no other configuration left, and nothing beside it can be shown to be right.
            blamed, everything = [site for site, _ in failed.choices], True
        for site in blamed:
            number = group_of[failed.call, *site]
            some = [task.choice for task in groups[number].ranked] if everything else [dict(failed.choices)[site]]
            for choice in some:
                one = Refusal(
                    kernel=site[0], group=number, choice=choice, reason=answers[failed].detail, everything=everything
                )
                refused.setdefault((number, choice), one)


def _question(
    call: TargetCall, arch: int, offered: Mapping[Site, Sequence[LaunchChoice]],
    group_of: Mapping[tuple[TargetCall, str, int], int], chosen: Mapping[int, CompileTask],
) -> Question:  # fmt: skip
    """What will be served to a call; a kernel for which nothing is left runs in the first configuration it is offered in."""
    choices = {}
    for site, some in offered.items():
        task = chosen.get(group_of[call, *site])
        choices[site] = task.choice if task else some[0]
    return Question(call=call, arch=arch, choices=tuple(choices.items()))


def _blamed(
    question: Question, answer: Answer, offered: Mapping[Site, Sequence[LaunchChoice]], judge: Judge
) -> tuple[list[Site], bool]:
    """(kernels whose choices are at fault, whether they are in any configuration).

    A broken rule names its kernel. An error beyond the budget does not: choices are exchanged, one after the other, for the
    first and the last that are offered; then each is tried amid all of the first, or of the last. Where the call is wrong with
    all of these, it is wrong.
    """
    if answer.site is not None:
        return [answer.site], False
    current = dict(question.choices)

    def holds(choices: Mapping[Site, LaunchChoice]) -> bool:
        (found,) = judge([replace(question, choices=tuple(choices.items()))])
        return found.held is True

    for site, some in offered.items():
        for other in dict.fromkeys((some[0], some[-1])):
            if other != current[site] and holds({**current, site: other}):
                return [site], False
    for end in (0, -1):
        base = {site: some[end] for site, some in offered.items()}
        if holds(base):
            others = [site for site in base if current[site] != base[site]]
            return [site for site in others if not holds({**base, site: current[site]})] or others, False
    return list(current), True
