"""Judge one cell (a kernel, a rule, a property): known edge cases, then drawn ones, then shrink what fails."""

from __future__ import annotations

import contextlib
import math
import time
import traceback
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from ...specs.problem import DType, Problem
from ...specs.rule import NAMED, RELATIVES, Rule
from ..cases import pairwise as lattice
from ..cases import regressions as corpus
from ..cases.case import Case, Replay
from ..cases.profiles import Profile
from ..cases.strategies import cases, regimes_of
from ..execution.harness import Harness
from ..execution.ratios import worst_case, worst_ratios
from ..localise.locate import localise
from ..properties.base import Property
from ..targets import is_package
from ..verdicts.outcome import KernelRaised, Outcome, Unsupported, held
from ..verdicts.verdict import Arithmetic, Counterexample, Verdict, replay_line

OnCase = Callable[[str], object]
"""Told the replay token of every case before it runs, so that a crash can be blamed."""


ORACLE_KERNEL = "oracle"
"""Stands for the kernel in cells that need none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one verdict is about."""

    target: str
    kernel: str
    rule: str
    property: str

    def seed(self, seed: int) -> int:
        """A seed of its own for every cell, the same on every machine."""
        return zlib.crc32(f"{seed}/{self.target}/{self.kernel}/{self.rule}/{self.property}".encode())


@dataclass(slots=True, kw_only=True)
class Record:
    """What the cases of a cell have shown so far."""

    judged: int = 0
    ratio: float | None = None
    unsupported: dict[str, int] = field(default_factory=dict)
    smallest: tuple[Case, Outcome] | None = None
    seen: dict[Case, Outcome] = field(default_factory=dict)
    others: dict[tuple[str | None, ...], tuple[Case, Outcome]] = field(default_factory=dict)
    """Of every other way to fail, the smallest case."""

    def add(self, case: Case, outcome: Outcome) -> None:
        self.seen[case] = outcome
        if outcome.status == "unsupported":
            self.unsupported[outcome.message] = self.unsupported.get(outcome.message, 0) + 1
            return
        self.judged += 1
        if outcome.ratio is not None:
            # NaN first: no comparison with it is ever true.
            worse = math.isnan(outcome.ratio) or self.ratio is None or outcome.ratio > self.ratio
            self.ratio = outcome.ratio if worse else self.ratio
        if self.fails(outcome):
            if self.smallest is None or case.size < self.smallest[0].size:
                self.smallest = (case, outcome)
        elif is_bad(outcome):
            known = self.others.get(_way(outcome))
            if known is None or case.size < known[0].size:
                self.others[_way(outcome)] = (case, outcome)

    def fails(self, outcome: Outcome) -> bool:
        """Whether an outcome is bad, and in the way of the first that was: shrinking must not slip to another failure."""
        if self.smallest is None or not is_bad(outcome):
            return is_bad(outcome)
        first = self.smallest[1]
        return _way(first) == _way(outcome)


def _way(outcome: Outcome) -> tuple[str | None, ...]:
    """The way in which an outcome fails."""
    return outcome.status, outcome.kind, outcome.cause


def is_bad(outcome: Outcome) -> bool:
    """Whether an outcome fails its cell."""
    return outcome.status in ("failed", "error")


def judge_case(prop: Property, case: Case, harness: Harness) -> Outcome:
    """One property on one case. What a kernel raises is its failure; what else is raised is an error of ours."""
    if case.problem.rule.name in RELATIVES and not prop.relatives:
        return Outcome(
            status="unsupported", message=f"{prop.name} judges rules, not systems with recurrences of their own"
        )
    try:
        return prop.check(case, harness)
    except Unsupported as reason:
        return Outcome(status="unsupported", message=str(reason))
    except KernelRaised as error:
        return Outcome(status="failed", kind=error.kind, message=str(error), cause=error.cause)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        return Outcome(
            status="error", message=f"{type(error).__name__} at {where}: {' '.join(str(error).split())[:300]}"
        )


def judge(
    cell: Cell,
    prop: Property,
    harness: Harness,
    profile: Profile,
    *,
    seed: int = 0,
    on_case: OnCase = lambda token: None,
) -> Verdict:
    """The verdict of a cell."""
    started = time.monotonic()
    record, kernel = Record(), harness.kernel if prop.needs_kernel else None

    def attempt(case: Case) -> Outcome:
        if case not in record.seen:
            on_case(Replay(prop=prop.name, kernel=cell.kernel, case=case).token)
            record.add(case, judge_case(prop, case, harness))
        return record.seen[case]

    for case in _known_cases(cell, prop, kernel, profile, seed):
        if is_bad(attempt(case)) and not is_package(cell.target):
            break
    for reason in _declined(prop, kernel, NAMED[cell.rule]):
        record.unsupported[reason] = record.unsupported.get(reason, 0) + 1
    _search(
        _strategy(cell, prop, kernel, profile), attempt, record, _examples(prop, profile), cell.seed(seed),
        profile.shrink_seconds,
    )  # fmt: skip
    verdict = _verdict(cell, prop, record, _arithmetic(prop, harness), time.monotonic() - started)
    return _localised(verdict, prop, harness, record, on_case)


def cases_of(cell: Cell, prop: Property, kernel: Any, profile: Profile, seed: int = 0) -> list[Case]:
    """The cases that `judge` runs while none fails, in its order, without running any."""
    found = dict.fromkeys(_known_cases(cell, prop, kernel, profile, seed))
    strategy = _strategy(cell, prop, kernel, profile)

    def note(case: Case) -> Outcome:
        found[case] = None
        return held()

    _search(strategy, note, Record(), _examples(prop, profile), cell.seed(seed), 0.0)
    return list(found)


def _strategy(cell: Cell, prop: Property, kernel: Any, profile: Profile) -> st.SearchStrategy[Case]:
    return cases(
        NAMED[cell.rule],
        profile,
        dtypes=_dtypes(prop),
        regimes=_regimes(cell, prop),
        kernel=kernel,
        applies=lambda problem: prop.applies(kernel, problem),
    )


def _examples(prop: Property, profile: Profile) -> int:
    return max(1, round(profile.examples / prop.calls))


def judge_one(
    cell: Cell, prop: Property, harness: Harness, case: Case, *, on_case: OnCase = lambda token: None
) -> Verdict:
    """The verdict of a single case, as a replay gives it."""
    started, record = time.monotonic(), Record()
    on_case(Replay(prop=prop.name, kernel=cell.kernel, case=case).token)
    record.add(case, judge_case(prop, case, harness))
    verdict = _verdict(cell, prop, record, _arithmetic(prop, harness), time.monotonic() - started)
    return _localised(verdict, prop, harness, record, on_case)


def _localised(verdict: Verdict, prop: Property, harness: Harness, record: Record, on_case: OnCase) -> Verdict:
    """A failure with its stage and story. Where they cannot be told, the story says so: it spoils no verdict."""
    found = verdict.counterexample
    if found is None or record.smallest is None or not prop.needs_kernel:
        return verdict
    on_case(found.replay)
    try:
        located = localise(lambda case: judge_case(prop, case, harness), *record.smallest, harness)
        found = replace(found, stage=located.stage, story=located.story or None)
    except Exception as error:
        found = replace(found, story=f"It could not be localised: {type(error).__name__}: {str(error)[:200]}")
    return replace(verdict, counterexample=found)


def _arithmetic(prop: Property, harness: Harness) -> Arithmetic:
    return prop.arithmetic if harness.device == "cpu" else "device"


def _search(
    strategy: st.SearchStrategy[Case],
    attempt: Callable[[Case], Outcome],
    record: Record,
    examples: int,
    seed: int,
    shrink_seconds: float,
) -> None:
    """Draw cases until one fails, then shrink it while time is left."""
    deadline = math.inf if record.smallest is None else time.monotonic() + shrink_seconds

    @hypothesis.seed(seed)
    @hypothesis.settings(
        # Hypothesis tries the simplest case first, whatever the seed: it comes on top of the drawn ones.
        max_examples=examples + 1,
        database=None,
        deadline=None,
        derandomize=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        verbosity=Verbosity.quiet,
        print_blob=False,
    )
    @hypothesis.given(strategy)
    def body(case: Case) -> None:
        nonlocal deadline
        # A case seen before costs nothing, and must fail again, or Hypothesis calls the test flaky.
        if case not in record.seen and time.monotonic() > deadline:
            return
        if record.fails(attempt(case)):
            deadline = min(deadline, time.monotonic() + shrink_seconds)
            raise _Found

    with contextlib.suppress(_Found, HypothesisException):
        body()


class _Found(Exception):
    """A case failed."""


def _known_cases(cell: Cell, prop: Property, kernel: Any, profile: Profile, seed: int) -> list[Case]:
    """The profile's share of the corpus and of the pairs of options; which part of them differs from cell to cell."""
    rule = NAMED[cell.rule]

    def share(problems: Iterable[Problem], count: int) -> list[Problem]:
        drawn = (as_taken(prop, kernel, problem) for problem in problems)
        able = [
            problem
            for problem in drawn
            if (kernel is None or kernel.accepts(problem) is True) and prop.applies(kernel, problem) is None
        ]
        start = cell.seed(seed) % max(1, len(able))
        return (able[start:] + able[:start])[:count]

    # The corpus is what broke kernels of this family before: a package meets all of it.
    known = corpus.problems(rule)
    chosen = share(known.values(), len(known) if is_package(cell.target) else profile.corpus)
    chosen += share(lattice.problems(rule), profile.pairs if prop.pairs else 0)
    return [Case(problem=problem, config=_config(kernel, problem, index)) for index, problem in enumerate(chosen)]


def _declined(prop: Property, kernel: Any, rule: Rule) -> list[str]:
    """Why known problems lie outside what a kernel does, one reason for each of them."""
    if kernel is None:
        return []
    known = [*corpus.problems(rule).values(), *(lattice.problems(rule) if prop.pairs else ())]
    answers = (kernel.accepts(as_taken(prop, kernel, problem)) for problem in known)
    return [str(answer or "not accepted") for answer in answers if answer is not True]


def as_taken(prop: Property, kernel: Any, problem: Problem) -> Problem:
    """A known problem as it is, or else in the first dtype, or without the first of the states, that the kernel takes."""
    if kernel is None or kernel.accepts(problem) is True:
        return problem
    states = ({}, {"initial_state": False}, {"final_state": False}, {"initial_state": False, "final_state": False})
    others = (replace(problem, dtype=dtype, **less) for less in states for dtype in _dtypes(prop))
    return next((other for other in others if kernel.accepts(other) is True), problem)


def _config(kernel: Any, problem: Problem, index: int) -> Any:
    if kernel is None:
        return None
    configs = kernel.configs(problem)
    return configs[index % len(configs)]


def _dtypes(prop: Property) -> Sequence[DType]:
    return ("fp32",) if prop.arithmetic in ("exact", "none") else ("fp32", "bf16", "fp16")


def _regimes(cell: Cell, prop: Property) -> Sequence[str]:
    """Exact arithmetic draws its own values: of all regimes only -inf makes a difference to it."""
    names = regimes_of(NAMED[cell.rule])
    return [name for name in ("ordinary", "reset_inf") if name in names] if prop.arithmetic == "exact" else names


def _verdict(cell: Cell, prop: Property, record: Record, arithmetic: Arithmetic, seconds: float) -> Verdict:
    notes = tuple(f"{count} not judged: {reason}" for reason, count in record.unsupported.items())
    kind = counterexample = None
    status = "held" if record.judged else "unsupported"
    if record.smallest is not None:
        case, outcome = record.smallest
        status = outcome.status
        if status == "failed":
            kind = outcome.kind or prop.kind
            counterexample = counterexample_of(cell, prop, case, outcome)
        else:
            replay = Replay(prop=prop.name, kernel=cell.kernel, case=case).token
            notes = (outcome.message, f"replay: {replay_line(cell.target, replay)}", *notes)
    if not record.judged and not notes:
        notes = ("no case of this profile applies",)
    for case, outcome in record.others.values():
        token = Replay(prop=prop.name, kernel=cell.kernel, case=case).token
        again = replay_line(cell.target, token)
        notes = (f"also fails ({outcome.kind or prop.kind}): {outcome.message}; replay: {again}", *notes)
    return Verdict(
        kernel=cell.kernel,
        rule=cell.rule,
        target=cell.target,
        property=prop.name,
        arithmetic=arithmetic,
        status=status,
        problems=record.judged,
        configs=tuple(sorted({case.config_token for case in record.seen if case.config is not None})),
        seconds=round(seconds, 3),
        kind=kind,
        worst_ratio=record.ratio,
        counterexample=counterexample,
        notes=notes,
        ratios=worst_ratios(record.seen),
        worst=None
        if record.ratio is None
        else Replay(prop=prop.name, kernel=cell.kernel, case=worst_case(record.seen)).token,
    )


def counterexample_of(cell: Cell, prop: Property, case: Case, outcome: Outcome) -> Counterexample:
    """A failing case as a report shows it."""
    place = outcome.place
    return Counterexample(
        problem=case.problem.token,
        config=case.config_token,
        message=outcome.message,
        replay=Replay(prop=prop.name, kernel=cell.kernel, case=case).token,
        tensor=place.tensor if place else None,
        index=place.index if place else None,
        token=place.token if place else None,
        head=place.head if place else None,
        channel=place.channel if place else None,
        expected=outcome.expected,
        got=outcome.got,
    )
