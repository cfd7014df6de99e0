"""Judge one cell (a kernel, a rule, a property): known edge cases, then drawn ones, then shrink the failure."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, get_args

from hypothesis import strategies as st

from ...results.files.one_line import folded
from ...specs.problem import DType, Problem
from ...specs.rule import NAMED, RELATIVES
from ..cases.call_styles import styles, words
from ..cases.cell import Cell
from ..cases.coverage import of_problems
from ..cases.profiles import Profile
from ..cases.replay import Case, Replay
from ..cases.strategies import cases
from ..cases.target_names import is_package
from ..execution.harness import Harness
from ..execution.ratios import worst_case, worst_ratios
from ..localise.locate import localise
from ..properties.base import Property
from ..targets.declared import would_change
from ..verdicts.judgement import Arithmetic, Counterexample, Verdict, replay_line
from ..verdicts.outcome import Inapplicable, KernelRaised, Outcome, Unsupported, held
from .known_cases import dtypes, known_cases, regimes, unsupported_reasons
from .search import CellRecord, is_bad, search
from .served_cases import served_cases, served_names
from .shrink import shrink

OnCase = Callable[[str], object]
"""Told the replay token of every case before it runs, so that a crash can be blamed."""


def judge_case(prop: Property, case: Case, harness: Harness) -> Outcome:
    """One property on one case. An exception of the kernel is its failure; any other is an error of ours."""
    if case.problem.rule.name in RELATIVES and not prop.relatives:
        return Outcome(
            status="inapplicable", message=f"{prop.name} judges rules, not systems with recurrences of their own"
        )
    try:
        return prop.check(case, harness)
    except Unsupported as reason:
        return Outcome(status="unsupported", message=str(reason))
    except Inapplicable as reason:
        return Outcome(status="inapplicable", message=str(reason))
    except KernelRaised as error:
        return Outcome(status="failed", kind=error.kind, message=str(error), cause=error.cause)
    except Exception as error:
        frame = traceback.extract_tb(error.__traceback__)[-1]
        where = f"{frame.filename.rpartition('/')[2]}:{frame.lineno}"
        return Outcome(status="error", message=f"{type(error).__name__} at {where}: {folded(error)[:300]}")


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
    record, kernel = CellRecord(), harness.kernel if prop.needs_kernel else None

    def attempt(case: Case) -> Outcome:
        if case not in record.seen:
            on_case(Replay(prop=prop.name, kernel=cell.kernel, case=case).token)
            with _covering(harness) as facts:
                record.add(case, judge_case(prop, case, harness))
            if record.seen[case].status in ("held", "failed"):
                record.covered |= facts
                record.covered |= of_problems([case.problem])
                record.covered |= served_names(case, kernel) if kernel is not None else set()
        return record.seen[case]

    if harness.simulated and kernel is not None:
        for case in served_cases(cell, prop, kernel, profile, harness.device):
            if is_bad(attempt(case)):
                break
        return _verdict(cell, prop, record, _arithmetic(prop, harness), time.monotonic() - started)
    for case in known_cases(cell, prop, kernel, profile, seed):
        if is_bad(attempt(case)) and not is_package(cell.target):
            # Which of the words it takes, if one of them does.
            for style in ("", *words(case.style)) if prop.styles else ():
                attempt(replace(case, style=style))
            break
    for reason in unsupported_reasons(prop, kernel, NAMED[cell.rule]):
        record.declined[reason] = record.declined.get(reason, 0) + 1
    known, most = len(record.seen), max(1, round(profile.shrink_cases / prop.calls))
    found = record.smallest
    search(_strategy(cell, prop, kernel, profile), attempt, record, _examples(prop, profile), cell.seed(seed), most)
    if found is not None and record.smallest is found:
        shrink(attempt, record, lambda problem: _takes(kernel, prop, problem), most - (len(record.seen) - known))
    verdict = _verdict(cell, prop, record, _arithmetic(prop, harness), time.monotonic() - started)
    return _localised(_advised(verdict, prop, harness, record), prop, harness, record, on_case)


def _takes(kernel: Any, prop: Property, problem: Problem) -> bool:
    return (kernel is None or kernel.accepts(problem) is True) and prop.applies(kernel, problem) is None


def cases_of(cell: Cell, prop: Property, kernel: Any, profile: Profile, seed: int = 0) -> list[Case]:
    """The cases that `judge` runs while none fails, in its order, without running any."""
    found = dict.fromkeys(known_cases(cell, prop, kernel, profile, seed))
    strategy = _strategy(cell, prop, kernel, profile)

    def note(case: Case) -> Outcome:
        found[case] = None
        return held()

    search(strategy, note, CellRecord(), _examples(prop, profile), cell.seed(seed), 0)
    return list(found)


def _strategy(cell: Cell, prop: Property, kernel: Any, profile: Profile) -> st.SearchStrategy[Case]:
    return cases(
        NAMED[cell.rule],
        profile,
        dtypes=dtypes(prop),
        regimes=regimes(cell, prop),
        kernel=kernel,
        applies=lambda problem: prop.applies(kernel, problem),
        styles=styles(kernel.differentiable, single=True, keeps=bool(kernel.keeping)) if prop.styles else ("",),
    )


def _examples(prop: Property, profile: Profile) -> int:
    """The number of cases to draw. Of a dear property a profile may draw none: only the known cases are then judged."""
    return int(profile.examples / prop.calls + 0.5)


def judge_one(
    cell: Cell, prop: Property, harness: Harness, case: Case, *, on_case: OnCase = lambda token: None
) -> Verdict:
    """The verdict of a single case, as a replay gives it."""
    started, record = time.monotonic(), CellRecord()
    on_case(Replay(prop=prop.name, kernel=cell.kernel, case=case).token)
    record.add(case, judge_case(prop, case, harness))
    verdict = _verdict(cell, prop, record, _arithmetic(prop, harness), time.monotonic() - started)
    return _localised(_advised(verdict, prop, harness, record), prop, harness, record, on_case)


def _advised(verdict: Verdict, prop: Property, harness: Harness, record: CellRecord) -> Verdict:
    """A failure of somebody else's kernel, with the declaration that would change it."""
    found = verdict.counterexample
    if found is None or record.smallest is None or not (prop.needs_kernel and harness.kernel.foreign):
        return verdict
    case, outcome = record.smallest
    advice = would_change(outcome.message, outcome.cause) or _narrower(prop, harness, case, outcome)
    first = harness.kernel.configs(case.problem)[0]
    other = case.config is not None and case.config.chunk_size != first.chunk_size
    if advice is None and other and judge_case(prop, replace(case, config=first), harness).status == "held":
        advice = f"not asked for if it declares chunk_sizes={first.chunk_size}"
    return (
        verdict
        if advice is None
        else replace(verdict, counterexample=replace(found, message=f"{found.message}; {advice}"))
    )


_CHANNELS = (128, 64, 32, 16)


def _narrower(prop: Property, harness: Harness, case: Case, outcome: Outcome) -> str | None:
    """The dtypes or head dimensions to declare where a function refuses others, and takes these."""
    if "raised in its" not in outcome.message:
        return None

    def holds(**changes: Any) -> bool:
        other = replace(case, problem=replace(case.problem, **changes))
        return harness.kernel.accepts(other.problem) is True and judge_case(prop, other, harness).status == "held"

    problem = case.problem
    taken = [dtype for dtype in get_args(DType) if dtype != problem.dtype and holds(dtype=dtype)]
    if taken:
        return f"not asked for if it declares dtypes={'+'.join(taken)}"
    smaller = (size for size in _CHANNELS if size < max(problem.K, problem.V))
    most = next((size for size in smaller if holds(K=min(problem.K, size), V=min(problem.V, size))), None)
    return None if most is None else f"not asked for if it declares max_channels={most}"


def _localised(verdict: Verdict, prop: Property, harness: Harness, record: CellRecord, on_case: OnCase) -> Verdict:
    """A failure with its stage and story. Where they cannot be told, the story says so: it spoils no verdict."""
    found = verdict.counterexample
    # Of compiled code the message names the kernel and the line; the stages are the interpreter's to tell.
    if found is None or record.smallest is None or not prop.needs_kernel or harness.simulated:
        return verdict
    on_case(found.replay)
    try:
        located = localise(lambda case: judge_case(prop, case, harness), *record.smallest, harness)
        found = replace(found, stage=located.stage, story=located.story or None)
    except Exception as error:
        found = replace(found, story=f"It could not be localised: {type(error).__name__}: {str(error)[:200]}")
    return replace(verdict, counterexample=found)


@contextmanager
def _covering(harness: Harness) -> Iterator[set[str]]:
    """The coverage of launches that run meanwhile in the interpreter; empty elsewhere."""
    if harness.device != "cpu":
        yield set()
        return
    from ..interpreter.covering import covering

    with covering() as facts:
        yield facts


def _arithmetic(prop: Property, harness: Harness) -> Arithmetic:
    if harness.simulated and prop.needs_kernel:
        return harness.device  # pyright: ignore[reportReturnType]  # an architecture, as `simulated` says
    return prop.arithmetic if harness.device == "cpu" else "device"


def _verdict(cell: Cell, prop: Property, record: CellRecord, arithmetic: Arithmetic, seconds: float) -> Verdict:
    notes = tuple(f"{count} not judged: {reason}" for reason, count in record.unsupported.items())
    notes += tuple(f"{count} to which it does not apply: {reason}" for reason, count in record.inapplicable.items())
    notes += tuple(f"{count} declined by the kernel: {reason}" for reason, count in record.declined.items())
    kind = counterexample = None
    unanswered = "unsupported" if record.unsupported or not record.seen else "inapplicable"
    status = "held" if record.judged else unanswered
    if record.smallest is not None:
        case, outcome = record.smallest
        status = outcome.status
        if status == "failed":
            kind = outcome.kind or prop.kind
            counterexample = counterexample_of(cell, prop, case, outcome)
        else:
            replay = Replay(prop=prop.name, kernel=cell.kernel, case=case).token
            notes = (outcome.message, f"replay: {replay_line(cell.target, replay, arithmetic)}", *notes)
    if not record.judged and not notes:
        notes = ("no case of this profile applies",)
    for case, outcome in record.others.values():
        token = Replay(prop=prop.name, kernel=cell.kernel, case=case).token
        again = replay_line(cell.target, token, arithmetic)
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
        covered=tuple(sorted(record.covered if prop.needs_kernel else ())),
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
