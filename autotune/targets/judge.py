"""The gate: a call's programs in the configurations chosen for them, run thread by thread on a CPU.

Every launch is held to the rules of compiled code, under adversarial orders that must agree; outputs and gradients of a function
of the family are held to the error budget of its rule, besides.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from ...results.files.one_line import told
from ...verify.process.pool import Failure, Workers
from ...verify.verdicts.plural import counted
from ..foreign.launches import LaunchChoice
from ..gates.running import SCHEDULES, SECONDS
from .call import TargetCall, function_of, judged, kernel_of
from .tuners import Pinned, Site, tuners_ask

if TYPE_CHECKING:
    from ...verify.ptx.verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Is a call right whose autotuned kernels run in these configurations? arch: the number of the architecture."""

    call: TargetCall
    arch: int
    choices: tuple[tuple[Site, LaunchChoice], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """held: None where it could not be told. detail: what was judged, or the first fault. site: the kernel whose own it is,
    where that is known."""

    question: Question
    held: bool | None
    detail: str
    site: Site | None = None


def ask(some: Sequence[Question], workers: Workers) -> Iterator[Answer]:
    """Answers, as they are found, from processes that may crash or hang; of these nothing can be told."""
    for index, result in workers.run(judge, [(question,) for question in some], SECONDS):
        if isinstance(result, Failure):
            result = Answer(question=some[index], held=None, detail=f"{result.outcome} while it ran as compiled")
        yield result


def judge(question: Question) -> Answer:
    """Compile and run one call. In a process without TRITON_INTERPRET."""
    try:
        return _judged(question)
    except (Exception, SystemExit) as error:  # whatever somebody else's function, or the compiler, may raise
        detail = told(error)
        return Answer(question=question, held=None, detail=detail)


def _judged(question: Question) -> Answer:
    from ...verify.ptx.launch import judging

    call, seen = question.call, ""
    if call.rule:
        kernel_of(call, question.arch)  # a try of its own, which is not to be judged
    with judging(question.arch, SCHEDULES, passed=_passed(question.arch, call)) as verdicts:
        pinned = Pinned(choices=dict(question.choices), launched=lambda: len(verdicts))
        with tuners_ask(pinned):
            run = _run_rule(question) if call.rule else _run_alone(call)
    for number, verdict in enumerate(verdicts):
        held, detail = _of_verdict(verdict)
        if not held:
            site = next((site for site, first, end in pinned.ran if first <= number < end), None)
            return Answer(question=question, held=held, detail=detail, site=site)
    if missed := [
        kernel for kernel, order in dict(question.choices) if (kernel, order) not in {s for s, *_ in pinned.ran}
    ]:
        seen = f"; not launched by the small call: {', '.join(dict.fromkeys(missed))}"
    kernels = ", ".join(dict.fromkeys(verdict.kernel for verdict in verdicts))
    ran = f"{counted(len(verdicts), 'launch')} under {len(SCHEDULES)} schedules: {kernels}"
    if run is None:
        return Answer(question=question, held=True, detail=f"{ran}; no rule was asked for{seen}")
    ratio, worst = run
    if not ratio <= 1:
        return Answer(
            question=question,
            held=False,
            detail=f"{worst} is {ratio:.3g} times its error budget in {judged(call).token}",
        )
    return Answer(question=question, held=True, detail=f"{ran}; worst error {ratio:.3g} of the budget{seen}")


def _run_rule(question: Question) -> tuple[float, str]:
    """The greatest error over its budget, and of which output."""
    from ...results.files.calibration import tau
    from ...specs.inputs.make import generate
    from ...verify.cases.replay import Case
    from ...verify.execution import execute
    from ...verify.execution.budget_cache import cached_budget
    from ...verify.execution.contracts import contract_of
    from ...verify.properties.error import worst_row
    from ...verify.verdicts.outcome import KernelRaised

    kernel, problem = kernel_of(question.call, question.arch), judged(question.call)
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    made = execute.tensors(problem, generate(problem))
    try:
        outputs = execute.run(kernel, case, made, gradients=kernel.differentiable)
    except KernelRaised as error:
        if not isinstance(error.__cause__, NotImplementedError):
            raise
        outputs = execute.run(kernel, case, made, gradients=False)
    worst = worst_row(execute.as_numpy(outputs), cached_budget(problem, contract_of(kernel, case)))
    return (0.0, "") if worst is None else (worst.ratio / tau(), worst.tensor)


def _run_alone(call: TargetCall) -> None:
    function_of(call.target)()


def _of_verdict(verdict: Verdict) -> tuple[bool | None, str]:
    if verdict.unsupported:
        return None, str(verdict.unsupported[0])
    if verdict.faults:
        # What a run saw says more than what the text shows.
        return False, str(min(verdict.faults, key=lambda fault: fault.rule.startswith("lint-")))
    # Atomics may add in any order; that is noted, and no fault of a configuration.
    if verdict.differences and not any(note.rule == "result-order" for note in verdict.notes):
        first = verdict.differences[0]
        return False, f"{verdict.kernel}: {first.memory} differs between {' and '.join(first.schedules)}"
    return True, ""


@cache
def _passed(arch: int, call: TargetCall) -> set[str]:
    """Programs that passed in this process on this call: most kernels run as before when one choice changes."""
    return set()
