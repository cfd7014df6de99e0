"""How often right kernels are failed: the cells of a profile over many seeds, counted."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, lgamma, log, log1p
from typing import Any

from ...kernels.registry import Kernel
from ..cases.profiles import DRAWN
from ..run import runner
from ..run.cache import VerdictStore
from ..run.plan import Selection, plan
from ..verdicts.judgement import Verdict

SCHEMA = 1
_CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A verdict on a kernel that is right, and the seed of its draw."""

    seed: int
    verdict: Verdict

    @property
    def alarm(self) -> bool:
        """Whether it is a false word: a failure, or an error of the verifier's own."""
        return self.verdict.status in ("failed", "error")


def over_seeds(
    seeds: Iterable[int],
    selection: Selection,
    kernels: Mapping[str, Kernel],
    settings: runner.Settings,
    store: VerdictStore,
    on_verdict: Callable[[Judged], None],
) -> None:
    """Judge the selected cells with one seed after the other: with the first one whole, with the others what they draw. What the
    store knows is not judged again, so that a long run can go on where it stopped. KeyboardInterrupt passes through."""
    profile = selection.profile
    for seed in seeds:
        oracle, cells = plan(replace(selection, seed=seed, profile=profile), kernels)

        def take(verdict: Verdict, seed: int = seed) -> None:
            on_verdict(Judged(seed=seed, verdict=verdict))

        runner.run(oracle, cells, replace(settings, seed=seed, profile=profile), store, take)
        profile = selection.profile + DRAWN


def rate_below(alarms: int, cells: int) -> float | None:
    """The rate of alarms that is refuted with 95% confidence by no more than so many alarms in so many cells (Clopper and
    Pearson); None where nothing was judged."""
    if not cells:
        return None
    low, high = alarms / cells, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _at_most(alarms, cells, middle) > 1 - _CONFIDENCE else (low, middle)
    return high


def _at_most(count: int, of: int, rate: float) -> float:
    """The probability of at most `count` successes in `of` independent tries."""
    if not 0 < rate < 1:
        return float(rate <= 0 or count >= of)
    odds = log(rate), log1p(-rate)
    return sum(exp(_log_choose(of, k) + k * odds[0] + (of - k) * odds[1]) for k in range(count + 1))


def _log_choose(n: int, k: int) -> float:
    return lgamma(n + 1) - lgamma(k + 1) - lgamma(n - k + 1)


def counts(judged: Sequence[Judged]) -> dict[str, Any]:
    """cells that got an answer, cases in them, alarms, the rate that these refute, and cells that got no answer."""
    answered = [one for one in judged if one.alarm or one.verdict.status == "held"]
    alarms = sum(one.alarm for one in answered)
    bound = rate_below(alarms, len(answered))
    return {
        "cells": len(answered),
        "cases": sum(one.verdict.problems for one in answered),
        "alarms": alarms,
        "rate_below": None if bound is None else round(bound, 6),
        "not_judged": sum(one.verdict.status == "unsupported" for one in judged),
    }


def document(judged: Sequence[Judged], environment: Mapping[str, str], setting: Mapping[str, Any]) -> dict[str, Any]:
    """The counts, of all and by property, and every alarm, as JSON values."""
    names = sorted({one.verdict.property for one in judged})
    return {
        "schema": SCHEMA,
        "environment": dict(environment),
        "setting": dict(setting),
        "summary": counts(judged),
        "properties": {name: counts([one for one in judged if one.verdict.property == name]) for name in names},
        "alarms": [_told(one) for one in judged if one.alarm],
        "not_judged": [_told(one) for one in judged if one.verdict.status == "unsupported"],
    }


def _told(one: Judged) -> dict[str, Any]:
    verdict, found = one.verdict, one.verdict.counterexample
    return {
        "seed": one.seed,
        "kernel": verdict.kernel,
        "rule": verdict.rule,
        "property": verdict.property,
        "message": found.message if found is not None else "; ".join(verdict.notes),
        "replay": None if found is None else found.replay,
    }


def sentence(summary: Mapping[str, Any]) -> str:
    """The counts in one line."""
    bound = "" if summary["rate_below"] is None else f": the rate is below {summary['rate_below']:.2%} (95%)"
    left = f"; {summary['not_judged']} cells not judged" if summary["not_judged"] else ""
    return f"{summary['alarms']} false alarms in {summary['cells']} cells of {summary['cases']} cases{bound}{left}"
