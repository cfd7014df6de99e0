"""The gate: a call's programs in the configurations chosen for them, run thread by thread on a CPU.

Every launch is held to the rules of compiled code, under adversarial orders that must agree; outputs and gradients of a function
of the family are held to the error budget of its rule, besides.
"""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

from ...results.files.one_line import told
from ...verify.targets.calls import TargetCall, function_of
from ...verify.targets.tuners import tuners_ask
from ...verify.verdicts.plural import counted
from ..foreign.questions import CallAnswer, CallQuestion, Site
from ..gates.running import SCHEDULES
from .call import judged, kernel_of
from .tuners import Pinned

if TYPE_CHECKING:
    from ...verify.ptx.verdict import PtxVerdict


def lost(question: CallQuestion, ended: str) -> CallAnswer:
    """The answer where the process crashed or hung: nothing can be told."""
    return CallAnswer(question=question, held=None, detail=f"{ended} while it ran as compiled")


def judge(question: CallQuestion, arch: int) -> CallAnswer:
    """Compile and run one call for an architecture, by its number. In a process without TRITON_INTERPRET."""
    try:
        return _judged(question, arch)
    except (Exception, SystemExit) as error:  # any error of somebody else's function, or of the compiler
        return CallAnswer(question=question, held=None, detail=told(error))


def _judged(question: CallQuestion, arch: int) -> CallAnswer:
    from ...verify.ptx.launch import judging

    call, seen = question.call, ""
    if call.rule:
        kernel_of(call, arch)  # a try of its own, which is not to be judged
    with judging(arch, SCHEDULES, passed=_passed(arch, call)) as verdicts:
        pinned = Pinned(choices=dict(question.choices), launched=lambda: len(verdicts))
        with tuners_ask(pinned):
            run = _run_rule(call, arch) if call.rule else _run_alone(call)
    for number, verdict in enumerate(verdicts):
        site = next((site for site, first, end in pinned.ran if first <= number < end), None)
        if (answer := _of_verdict(verdict, question, site)) is not None:
            return answer
    if missed := [
        kernel for kernel, order in dict(question.choices) if (kernel, order) not in {s for s, *_ in pinned.ran}
    ]:
        seen = f"; not launched by the small call: {', '.join(dict.fromkeys(missed))}"
    kernels = ", ".join(dict.fromkeys(verdict.kernel for verdict in verdicts))
    ran = f"{counted(len(verdicts), 'launch')} under {len(SCHEDULES)} schedules: {kernels}"
    if run is None:
        return CallAnswer(question=question, held=True, detail=f"{ran}; no rule was asked for{seen}")
    ratio, worst = run
    if not ratio <= 1:
        detail = f"{worst} is {ratio:.3g} times its error budget in {judged(call).token}"
        return CallAnswer(question=question, held=False, detail=detail)
    return CallAnswer(question=question, held=True, detail=f"{ran}; worst error {ratio:.3g} of the budget{seen}")


def _run_rule(call: TargetCall, arch: int) -> tuple[float, str]:
    """The greatest error over its budget, and of which output."""
    from ...results.files.calibration import tau
    from ...specs.inputs.make import generate
    from ...verify.cases.replay import Case
    from ...verify.execution import execute
    from ...verify.execution.budget_cache import cached_budget
    from ...verify.execution.contracts import contract_of
    from ...verify.properties.error import worst_row
    from ...verify.verdicts.outcome import KernelRaised

    kernel, problem = kernel_of(call, arch), judged(call)
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


def _of_verdict(verdict: PtxVerdict, question: CallQuestion, site: Site | None) -> CallAnswer | None:
    """The answer of one launch, of this kernel, against the call; None if it says nothing against it."""
    answer = partial(CallAnswer, question=question, site=site)
    if verdict.unsupported:
        return answer(held=None, detail=str(verdict.unsupported[0]))
    if verdict.faults:
        # A finding of a run says more than one of the text.
        fault = min(verdict.faults, key=lambda fault: fault.rule.startswith("lint-"))
        return answer(held=False, detail=str(fault), rule=fault.rule)
    # Atomics may add in any order; that is noted, and no fault of a configuration.
    if verdict.differences and not any(note.rule == "result-order" for note in verdict.notes):
        first = verdict.differences[0]
        detail = f"{verdict.kernel}: {first.memory} differs between {' and '.join(first.schedules)}"
        return answer(held=False, detail=detail)
    return None


@cache
def _passed(arch: int, call: TargetCall) -> set[str]:
    """Programs that passed in this process on this call: most kernels run as before when one choice changes."""
    return set()
