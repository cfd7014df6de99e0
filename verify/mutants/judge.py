"""The work of a child process: one fault, test after test, until one finds it."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from ..cases.replay import Replay
from ..execution.harness import Harness
from ..properties import load
from ..run.judge import judge_case
from ..targets import load as load_target
from .engines import transform_of
from .kept import forget
from .mutant import Mutant
from .suite import read_suite

Status = Literal["killed", "survived", "equivalent", "excluded"]

CRASHES = 4
"""A fault that made the kernel raise on this many problems, and was found in no other way, only crashes."""

_ROOT = f"{Path(__file__).resolve().parents[2]}/"
"""The folder of our sources, which is nobody's business where a report is read."""

TIMED_OUT = "were left at the timeout"
"""In the reason of a fault that survived because nobody asked any further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantResult:
    """The outcome of one fault.

    status: "excluded" for one that only crashes or changes a shape: nobody needs a verifier to see it.
    by, arithmetic, kind, replay: the property that found it, how, and on which case. asked: tests until then.
    seconds: of processor time. crashes: tests on which the kernel raised.
    reason: why excluded, or the argument for equivalence.
    """

    id: str
    operator: str
    stage: str
    where: str
    status: Status
    seconds: float
    asked: int
    by: str | None = None
    arithmetic: str | None = None
    kind: str | None = None
    replay: str | None = None
    crashes: int = 0
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantTask:
    """mutant: the fault. suite_path: file of the suite. tests: which of its cases, by index. target, tau: as in `verify all`.

    timeout: seconds of processor time after which a fault counts as survived, even if tests are left.
    """

    mutant: Mutant
    suite_path: Path
    tests: tuple[int, ...]
    target: str
    tau: float
    timeout: float


def run(task: MutantTask) -> MutantResult:
    """Run cases until one finds the fault that holds without it."""
    suite = read_suite(task.suite_path)
    kernels = load_target(task.target).kernels
    transform = transform_of(task.mutant)
    started = time.process_time()
    crashes, count, last = 0, 0, ""
    for index in task.tests:
        if time.process_time() - started > task.timeout:
            last = f"{len(task.tests) - count} cases {TIMED_OUT}"
            break
        test = suite[index]
        harness = Harness(kernel=kernels[test.kernel], kernels=kernels, tau=task.tau)
        count += 1
        forget()
        outcome = judge_case(load(test.prop), test.case, replace(harness, transform=transform))
        # An offset that wraps around raises in the interpreter alone: it took a check to see it.
        raised = outcome.status == "failed" and " raised in its " in outcome.message and outcome.kind != "memory"
        if outcome.status == "error" or raised:
            crashes, last = crashes + 1, outcome.message.replace(_ROOT, "")
            if crashes >= CRASHES:
                break
        elif outcome.status == "failed" and _holds(task.target, task.tau, test):
            return _result(
                task, "killed", time.process_time() - started, count, crashes=crashes, by=test.prop,
                arithmetic=load(test.prop).arithmetic, kind=outcome.kind, replay=test.token,
            )  # fmt: skip
    seconds = time.process_time() - started
    if crashes >= CRASHES:
        return _result(task, "excluded", seconds, count, crashes=crashes, reason=f"only raises: {last[:160]}")
    return _result(task, "survived", seconds, count, crashes=crashes, reason=last[:160])


def _result(task: MutantTask, status: Status, seconds: float, asked: int, **more: Any) -> MutantResult:
    mutant = task.mutant
    return MutantResult(
        id=mutant.id, operator=mutant.operator, stage=mutant.stage, where=mutant.where, status=status,
        seconds=round(seconds, 3), asked=asked, **more,
    )  # fmt: skip


@lru_cache(maxsize=1024)
def _holds(target: str, tau: float, test: Replay) -> bool:
    """Whether the kernel without a fault passes: a test that it fails finds nothing."""
    kernels = load_target(target).kernels
    harness = Harness(kernel=kernels[test.kernel], kernels=kernels, tau=tau)
    return judge_case(load(test.prop), test.case, harness).status == "held"
