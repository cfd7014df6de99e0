"""The questions to a judge of somebody else's kernels, and its answers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ...verify.process.progress import Progress

Site = tuple[str, int]
"""An autotuned kernel of a call, and which of the call's launches with autotuning, or of the kernel's keys, it is."""
Choices = Mapping[Site, Any]
"""Of every autotuned kernel of a call, as much of its configuration as the judge can see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallQuestion:
    """Is a call right, forward and backward, when its kernels run like this? choices: sorted, see `Choices`."""

    call: Any
    choices: tuple[tuple[Site, Any], ...]

    @classmethod
    def of(cls, call: Any, choices: Choices) -> CallQuestion:
        return cls(call=call, choices=tuple(sorted(choices.items(), key=lambda item: item[0])))

    def but(self, site: Site, choice: Any) -> CallQuestion:
        """The same question with another choice for one kernel."""
        return replace(self, choices=tuple((one, choice if one == site else known) for one, known in self.choices))


@dataclass(frozen=True, slots=True, kw_only=True)
class CallAnswer:
    """held: None where it could not be told. detail: the cases judged, or the first fault, in one line.

    rule, site: the rule of compiled code that is broken, and the kernel whose own fault it is, where these are known.
    final: it will be the same the next time; False where judging crashed or hung.
    """

    question: CallQuestion
    held: bool | None
    detail: str
    rule: str = ""
    site: Site | None = None
    final: bool = True


class Answers(Protocol):
    """Answers of earlier runs, under names that stand for all that they depend on."""

    def key(self, question: CallQuestion) -> str: ...

    def recall(self, key: str, question: CallQuestion) -> CallAnswer | None: ...

    def keep(self, key: str, answer: CallAnswer) -> None: ...


Judge = Callable[[Sequence[CallQuestion]], Mapping[CallQuestion, CallAnswer]]


def once(
    ask: Callable[[Sequence[CallQuestion]], Iterable[CallAnswer]],
    doing: str,
    progress: Progress,
    earlier: Answers | None = None,
) -> Judge:
    """A judge that asks every question once, if it was not answered in an earlier run, and names it by the state of its subject
    then: sources may change while it is judged."""
    known: dict[CallQuestion, CallAnswer] = {}

    def judge(questions: Sequence[CallQuestion]) -> Mapping[CallQuestion, CallAnswer]:
        names: dict[CallQuestion, str] = {}
        for question in questions:
            if earlier and question not in known:
                names[question] = earlier.key(question)
                if answer := earlier.recall(names[question], question):
                    known[question] = answer
        waiting = list(dict.fromkeys(question for question in questions if question not in known))
        progress.begin(doing, len(waiting))
        for answer in ask(waiting):
            known[answer.question] = answer
            if earlier:
                earlier.keep(names[answer.question], answer)
            progress.step(str(answer.question.call))
        return known

    return judge
