"""The gate on compiled code, by running it: a configuration's programs, thread by thread on a CPU, in adversarial orders.

A search of the text for known hazards comes first and costs nothing (`verify.compile.overlaps`); this finds the others, and
compares the results of the programs with the error budget.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ...kernels.configs.launch_config import LaunchConfig, kernel_of
from ...results.digests.code import code_digest
from ...results.files.one_line import told
from ...verify.process.pool import Workers, one_thread
from ...verify.ptx.architectures import architecture
from ...verify.ptx.schedules import FIRST_FIRST, RANDOM, ROUND_ROBIN
from ...verify.run.served_cases import TAIL
from ..space.points import Family
from .asking import answers

if TYPE_CHECKING:
    from ...specs.problem import Problem

SCHEDULES = (ROUND_ROBIN, FIRST_FIRST, RANDOM)
"""Warps in turn; the first warp until it waits, and all that is asynchronous late; turns of random length, late as well."""
SECONDS = 900.0
"""After which a run counts as hanging, compiling included."""
SHORT = 5
"""Tokens of a packed sequence that is shorter than any tile."""
HEADS = 2
"""With one head the compiler knows rows to be contiguous that are not when it serves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunQuestion:
    """Are the programs that the compiler makes of a configuration, for calls of a family on an architecture, right?

    arch: the number of the architecture: 90 for sm_90.
    """

    family: Family
    config: LaunchConfig
    arch: int

    @property
    def kernel(self) -> str:
        """Its name in `kernels.KERNELS`."""
        return kernel_of(self.family.op, self.config.token)

    def __str__(self) -> str:
        return f"{self.family} {self.config.token} sm_{self.arch}"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswer:
    """held: no rule was broken, all schedules gave the same bits, and these are within budget; None where it could not be told.

    detail: the cases judged, or the first fault. program: digest of the programs. seconds: of wall time, compiling included.
    """

    question: RunQuestion
    held: bool | None
    detail: str
    program: str = ""
    seconds: float = 0.0


def can_run(arch: str) -> bool:
    """Whether programs of an architecture, "sm_90", can be run on a CPU."""
    try:
        architecture(arch)
    except ValueError:
        return False
    return True


def ask_run(some: Sequence[RunQuestion], jobs: int, timeout: float = SECONDS) -> Iterator[RunAnswer]:
    """Answers, as they are found, from processes that may crash or hang; of these nothing can be told."""
    with Workers(jobs, one_thread) as workers:
        yield from answers(run_compiled, some, workers, _lost, timeout)


def _lost(question: RunQuestion, ended: str) -> RunAnswer:
    return RunAnswer(question=question, held=None, detail=f"{ended} while it ran as compiled")


def run_compiled(question: RunQuestion) -> RunAnswer:
    """Compile and run one configuration, forward and, in training, backward. In a process without TRITON_INTERPRET."""
    import time

    started = time.monotonic()
    try:
        held, detail, program = _judged(question)
    except Exception as error:
        held, detail, program = None, told(error), ""
    seconds = round(time.monotonic() - started, 1)
    return RunAnswer(question=question, held=held, detail=detail, program=program, seconds=seconds)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    """The result of running one call. held, detail: as in an answer. programs: their digests. kernels: their names."""

    held: bool | None
    detail: str = ""
    programs: tuple[str, ...]
    kernels: tuple[str, ...]
    ratio: float = 0.0


def _judged(question: RunQuestion) -> tuple[bool | None, str, str]:
    done: list[_Run] = []
    for problem in problems(question):
        done.append(_run(question, problem))
        if not done[-1].held:
            break
    program = hashlib.sha256(" ".join(name for run in done for name in run.programs).encode()).hexdigest()[:32]
    if not done[-1].held:
        return done[-1].held, done[-1].detail, program
    names = ", ".join(dict.fromkeys(name for run in done for name in run.kernels))
    worst = max(run.ratio for run in done)
    ran = f"{len(done)} calls under {len(SCHEDULES)} schedules: {names}"
    return True, f"{ran}; worst error {worst:.3g} of the budget", program


def _run(question: RunQuestion, problem: Problem) -> _Run:
    from ...kernels import KERNELS
    from ...results.files.calibration import tau
    from ...specs.inputs.make import generate
    from ...verify.cases.replay import Case
    from ...verify.execution import execute
    from ...verify.execution.budget_cache import cached_budget
    from ...verify.execution.contracts import contract_of
    from ...verify.properties.error import worst_row
    from ...verify.ptx.launch import judging

    kernel = KERNELS[question.kernel]
    case = Case(problem=problem, config=question.config.shortest)
    made = execute.tensors(problem, generate(problem))
    with judging(question.arch, SCHEDULES, passed=_passed(question.arch, problem)) as verdicts:
        outputs = execute.run(kernel, case, made, gradients=kernel.differentiable)
    programs, kernels = tuple(x.program for x in verdicts), tuple(x.kernel for x in verdicts)

    def ran(held: bool | None, detail: str = "", ratio: float = 0.0) -> _Run:
        where = "" if held else f" in {problem.token}"
        return _Run(held=held, detail=detail + where, ratio=ratio, programs=programs, kernels=kernels)

    faults = [fault for verdict in verdicts for fault in verdict.faults]
    if unknown := [finding for verdict in verdicts for finding in verdict.unsupported]:
        return ran(None, str(unknown[0]))
    if faults:
        # A finding of a run says more than one of the text.
        return ran(False, str(min(faults, key=lambda fault: fault.rule.startswith("lint-"))))
    if found := [difference for verdict in verdicts for difference in verdict.differences]:
        return ran(False, f"{found[0].memory} differs between {' and '.join(found[0].schedules)}")
    worst = worst_row(execute.as_numpy(outputs), cached_budget(problem, contract_of(kernel, case)))
    ratio = 0.0 if worst is None else worst.ratio / tau()
    if worst is not None and not ratio <= 1:
        return ran(False, f"{worst.tensor} is {ratio:.3g} times its error budget")
    return ran(True, ratio=ratio)


@cache
def _passed(arch: int, problem: Problem) -> set[str]:
    """Programs that passed in this process on this problem: most stages are those of several configurations."""
    return set()


def problems(question: RunQuestion) -> tuple[Problem, ...]:
    """The calls that are run: a plain one, and one with all that makes other programs of it.

    Plain is training as it usually is: no state goes in or comes out. The other has both states; packed sequences, a short, an
    empty, and one of a chunk and a bit; keys normalised and gates activated in the kernel.
    """
    from ...specs.problem import Problem
    from ...specs.rule import RULES

    family = question.family
    usual: dict[str, Any] = {"rule": RULES[family.rule], "dtype": family.dtype, "K": family.K, "V": family.V}
    usual |= {"H": HEADS, "HV": HEADS}
    whole = question.config.shortest.run_tokens
    lengths = (SHORT, 0, whole + TAIL)
    raw = RULES[family.rule].decay != "none"
    bare: dict[str, Any] = {"initial_state": False, "final_state": False}
    return (
        Problem(**usual, **bare, T=2 * whole + TAIL),
        Problem(**usual, T=sum(lengths), lengths=lengths, qk_l2norm=True, gate_in_kernel=raw),
    )


def engine() -> str:
    """Digest of the code that runs and judges, and of the threshold; programs are named by their kernels, and nothing is
    interpreted."""
    from ...results.files.calibration import tau
    from ...verify.ptx import library
    from ...verify.run.cache import NOT_JUDGING

    code = code_digest("autotune/gates/running.py", without=("kernels", "verify/interpreter", *NOT_JUDGING))
    return hashlib.sha256(f"{code} {library.digest()} {tau()!r}".encode()).hexdigest()
