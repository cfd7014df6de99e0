"""From the best configurations to the best that passed the gate: what fails is refused, and the next one takes its place."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ..foreign.cache_keys import CacheKeyGroup
from ..foreign.compile import CompileTask
from .calls import FlaCall
from .gate import CallAnswer, CallQuestion
from .pinned_configs import Kwargs, Site

Judge = Callable[[Sequence[CallQuestion]], Mapping[CallQuestion, CallAnswer]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Block sizes of a kernel that will not be written, and why: one line. everything: nor will any others of it."""

    kernel: str
    kwargs: Kwargs
    call: FlaCall
    reason: str
    everything: bool = False


@dataclass(slots=True, kw_only=True)
class Selection:
    """chosen: by the place of the slot. answers: that every call of a chosen configuration has passed.

    checked: how many block sizes of slots were judged in order to be written.
    """

    chosen: dict[int, CompileTask]
    answers: dict[FlaCall, CallAnswer]
    checked: int
    refused: list[Refusal] = field(default_factory=list)


def select(slots: Sequence[CacheKeyGroup], tasks: Sequence[CompileTask], judge: Judge) -> Selection:
    """Judge the best of every slot together, call by call; where a call fails, find out whose fault it is, and go on.

    tasks: every configuration that FLA offers. A kernel that has nothing to choose from runs in one of them.
    """
    offered: dict[FlaCall, dict[Site, list[Kwargs]]] = {}
    for task in sorted(tasks, key=lambda task: task.place):
        sites = offered.setdefault(task.call, {})
        sites.setdefault((task.kernel, task.order), []).append(task.choice.kwargs)
    slot_of = {place: number for number, slot in enumerate(slots) for place in slot.places}
    refused: dict[tuple[int, Kwargs], Refusal] = {}
    dead: set[int] = set()
    checked: set[tuple[int, Kwargs]] = set()
    while True:
        chosen = {
            number: best
            for number, slot in enumerate(slots)
            if number not in dead
            and (best := next((task for task in slot.ranked if (number, task.choice.kwargs) not in refused), None))
        }
        wanted = {call for number in chosen for call, _, _ in slots[number].places}
        questions = [_question(call, offered[call], slot_of, chosen, refused) for call in sorted(wanted)]
        checked |= {(number, task.choice.kwargs) for number, task in chosen.items()}
        answers = judge(questions)
        failed = [question for question in questions if not answers[question].held]
        if not failed:
            return Selection(
                chosen=chosen, answers={question.call: answers[question] for question in questions},
                checked=len(checked), refused=list(refused.values()),
            )  # fmt: skip
        # One call at a time: what is taken instead may be right for the others, too.
        question = failed[0]
        places = {site: slot_of[question.call, *site] for site, _ in question.choices}
        faults = _faults(question, answers[question], offered[question.call], judge)
        blamed = {site for site in faults if places[site] in chosen}
        for site, kwargs in question.choices:
            number = places[site]
            if number not in chosen or (blamed and site not in blamed):
                continue
            # What fails whatever is chosen leaves nothing to choose from.
            dead |= set() if blamed else {number}
            reason = faults.get(site, answers[question].detail)
            one = Refusal(kernel=site[0], kwargs=kwargs, call=question.call, reason=reason, everything=not blamed)
            refused.setdefault((number, kwargs), one)


def _question(
    call: FlaCall, offered: Mapping[Site, Sequence[Kwargs]], slot_of: Mapping[tuple[FlaCall, str, int], int],
    chosen: Mapping[int, CompileTask], refused: Mapping[tuple[int, Kwargs], Refusal],
) -> CallQuestion:  # fmt: skip
    """What will be served to a call."""
    choices = {}
    for site, some in offered.items():
        number = slot_of[call, *site]
        task = chosen.get(number)
        others = (kwargs for kwargs in some if (number, kwargs) not in refused)
        choices[site] = task.choice.kwargs if task else next(others, some[0])
    return CallQuestion(call=call, choices=tuple(sorted(choices.items())))


def _faults(
    question: CallQuestion, answer: CallAnswer, offered: Mapping[Site, Sequence[Kwargs]], judge: Judge
) -> dict[Site, str]:
    """Whose choices are at fault, and why; none where the call fails whatever is chosen.

    One fault is found by exchanging one choice after the other. Of several, each is tried by itself amid configurations that
    hold: the first ones that FLA offers, or else the last.
    """
    exchanged = {
        site: question.but(site, other)
        for site, kwargs in question.choices
        if (other := next((some for some in offered[site] if some != kwargs), None))
    }
    answers = judge(list(exchanged.values()))
    for site, one in exchanged.items():
        if answers[one].held:
            return {site: f"{answer.detail}; right with {dict(dict(one.choices)[site])}"}
    for which in (0, -1):
        base = CallQuestion(
            call=question.call, choices=tuple(sorted((site, some[which]) for site, some in offered.items()))
        )
        if judge([base])[base].held:
            known = dict(base.choices)
            alone = {site: base.but(site, kwargs) for site, kwargs in question.choices if kwargs != known[site]}
            answers = judge(list(alone.values()))
            return {site: answers[one].detail for site, one in alone.items() if not answers[one].held}
    return {}
