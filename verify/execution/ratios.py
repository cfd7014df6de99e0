"""The largest errors over their budgets, among the cases of a cell. NaN is larger than any number."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ..cases.replay import Case
from ..verdicts.outcome import Outcome


def order(ratio: float) -> float:
    """A key to sort ratios by: NaN, which compares with nothing, comes last."""
    return math.inf if math.isnan(ratio) else ratio


def worst_ratios(seen: Mapping[Case, Outcome]) -> tuple[tuple[str, str, float], ...]:
    """(regime, tensor, ratio): the largest of each regime and tensor, sorted."""
    worst: dict[tuple[str, str], float] = {}
    for case, outcome in seen.items():
        for tensor, ratio in outcome.ratios:
            at = (case.problem.regime, tensor)
            worst[at] = max(worst.get(at, 0.0), ratio, key=order)
    return tuple((regime, tensor, ratio) for (regime, tensor), ratio in sorted(worst.items()))


def worst_case(seen: Mapping[Case, Outcome]) -> Case:
    """The case with the largest ratio. Raises ValueError if none has one."""
    measured = [(order(outcome.ratio), case) for case, outcome in seen.items() if outcome.ratio is not None]
    return max(measured, key=lambda pair: pair[0])[1]
