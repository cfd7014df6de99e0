"""Draw cases with Hypothesis until one fails, then shrink it, and keep a record of all."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import hypothesis
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis import strategies as st
from hypothesis.errors import HypothesisException

from ..cases.replay import Case
from ..verdicts.outcome import Outcome


@dataclass(slots=True, kw_only=True)
class CellRecord:
    """The record of the cases of a cell so far."""

    judged: int = 0
    ratio: float | None = None
    unsupported: dict[str, int] = field(default_factory=dict)
    covered: set[str] = field(default_factory=set)
    inapplicable: dict[str, int] = field(default_factory=dict)
    """Why there was nothing to judge in a case."""
    declined: dict[str, int] = field(default_factory=dict)
    """Why the kernel, as it declares, does not take a case."""
    smallest: tuple[Case, Outcome] | None = None
    seen: dict[Case, Outcome] = field(default_factory=dict)
    others: dict[tuple[str | None, ...], tuple[Case, Outcome]] = field(default_factory=dict)
    """Of every other way to fail, the smallest case."""

    def add(self, case: Case, outcome: Outcome) -> None:
        self.seen[case] = outcome
        if outcome.status in ("unsupported", "inapplicable"):
            reasons = self.unsupported if outcome.status == "unsupported" else self.inapplicable
            reasons[outcome.message] = reasons.get(outcome.message, 0) + 1
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
            known = self.others.get(way(outcome))
            if known is None or case.size < known[0].size:
                self.others[way(outcome)] = (case, outcome)

    def fails(self, outcome: Outcome) -> bool:
        """Whether an outcome is bad, and in the way of the first that was: shrinking must not slip to another failure."""
        if self.smallest is None or not is_bad(outcome):
            return is_bad(outcome)
        first = self.smallest[1]
        return way(first) == way(outcome)


def way(outcome: Outcome) -> tuple[str | None, ...]:
    """The way in which an outcome fails."""
    return outcome.status, outcome.kind, outcome.cause


def is_bad(outcome: Outcome) -> bool:
    """Whether an outcome fails its cell."""
    return outcome.status in ("failed", "error")


def search(
    strategy: st.SearchStrategy[Case],
    attempt: Callable[[Case], Outcome],
    record: CellRecord,
    examples: int,
    seed: int,
    shrink_cases: int,
) -> None:
    """Draw cases until one fails, then shrink it over no more than so many others: the same ones on every machine."""
    if not examples and record.smallest is None:
        return
    left = math.inf if record.smallest is None else shrink_cases

    @hypothesis.seed(seed)
    @hypothesis.settings(
        # Hypothesis tries the simplest case first, with any seed: it comes on top of the drawn ones.
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
        nonlocal left
        # A case seen before costs nothing, and must fail again, or Hypothesis calls the test flaky.
        if case not in record.seen:
            if left <= 0:
                return
            left -= 1
        if record.fails(attempt(case)):
            left = min(left, shrink_cases)
            raise _Found

    with contextlib.suppress(_Found, HypothesisException):
        body()


class _Found(Exception):
    """A case failed."""
