"""Where tau comes from, and how rarely it cries wolf: row ratios of known-good kernels on the problems that are drawn.

Problems come from the strategy of a profile, in equal shares of regimes and dtypes; kernels and rules take turns. One
share is the problems of one dtype and regime, and is measured in one go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, islice
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity
from hypothesis.errors import Unsatisfiable

from ...results.files.calibration import implied_tau
from ...specs.budget import Budget, ratios
from ...specs.inputs.make import generate
from ...specs.inputs.regimes import REGIMES
from ...specs.problem import DType
from ...specs.rule import RULES
from ..cases.case import Case, Replay
from ..cases.cell import Cell
from ..cases.profiles import PROFILES
from ..cases.strategies import cases
from ..execution.contracts import budget_of, contract_of
from ..execution.harness import Harness
from ..properties.identities import residuals, worst_residual
from ..targets import Target
from ..targets import load as load_target

QUANTILES = (0.5, 0.99, 0.999, 0.9999)
DTYPES: tuple[DType, ...] = ("fp32", "bf16", "fp16")
_TRIES = 4
"""Draws for each problem wanted: some are of no kernel's business, or not known to be computed right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One unit of measurement: `problems` problems of one dtype and regime, for these kernels and rules in turn."""

    target: str
    kernels: tuple[str, ...]
    profile: str
    dtype: DType
    regime: str
    problems: int
    seed: int

    @property
    def name(self) -> str:
        return f"{self.dtype}-{self.regime}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredShare:
    """One share, measured. ratios: by kernel, of every row of every output. largest: by case, of rows and identities."""

    dtype: str
    regime: str
    ratios: Mapping[str, np.ndarray]
    largest: Mapping[str, float]


def shares(
    target: str, kernels: Sequence[str], profile: str, problems: int, seed: int, rules: Sequence[str] = tuple(RULES)
) -> list[Share]:
    """Equal shares of all dtypes and regimes that add up to at least `problems`."""
    regimes = [name for name, regime in REGIMES.items() if any(regime.applies(RULES[rule]) for rule in rules)]
    each = -(-problems // (len(DTYPES) * len(regimes)))
    return [
        Share(
            target=target, kernels=tuple(kernels), profile=profile, dtype=dtype, regime=regime, problems=each, seed=seed
        )
        for dtype in DTYPES
        for regime in regimes
    ]  # fmt: skip


def measure(share: Share) -> MeasuredShare:
    """Ratios of every row over drawn cases. Does not judge: a wrong kernel shows as a huge ratio."""
    target = load_target(share.target)
    found: dict[str, list[np.ndarray]] = {}
    largest: dict[str, float] = {}
    for case, kernel in _problems(share, target):
        harness = Harness(kernel=target.kernels[kernel], kernels=target.kernels)
        rows, identity = row_ratios(harness, case)
        found.setdefault(kernel, []).append(rows)
        token = Replay(prop="error", kernel=kernel, case=case).token
        # NaN first: no comparison with it is ever true.
        largest[token] = float(np.max([0.0, identity, *rows]))  # NaN if any is
    return MeasuredShare(
        dtype=share.dtype,
        regime=share.regime,
        ratios={name: np.concatenate(parts) for name, parts in found.items()},
        largest=largest,
    )


def row_ratios(harness: Harness, case: Case) -> tuple[np.ndarray, float]:
    """Error over sigma of every row of every output of one case in one flat array, and of the worst identity."""
    problem, inputs = case.problem, generate(case.problem)
    outputs = harness.faithful(case, inputs, gradients=harness.kernel.differentiable)
    allowed = budget_of(problem, contract_of(harness.kernel, case))
    reference = {name: truth for name, truth in allowed.reference.items() if name in outputs}
    found = ratios(outputs, reference, allowed.sigma, allowed.contract)
    rows = np.concatenate([np.zeros(0), *(rows.ravel() for rows in found.values())])
    return rows, _identity(harness, case, outputs, allowed)


def _identity(harness: Harness, case: Case, outputs: Mapping[str, np.ndarray], allowed: Budget) -> float:
    if not harness.kernel.differentiable:
        return 0.0
    problem, inputs = case.problem, generate(case.problem)
    found = residuals(problem, inputs, {name: x.astype(np.float64) for name, x in outputs.items()})
    worst = worst_residual(problem, inputs, found, allowed)
    return 0.0 if worst is None else worst[0]


def _problems(share: Share, target: Target) -> Iterator[tuple[Case, str]]:
    """The cases of a share, each with its kernel: as many as asked for, or as there are known to be good."""
    regime = REGIMES[share.regime]
    pairs = [(kernel, rule) for rule in RULES if regime.applies(RULES[rule]) for kernel in share.kernels]
    left, tries = share.problems, share.problems * _TRIES
    # Shares begin at different kernels and rules, or small ones would all be of the first.
    start = sum(share.name.encode()) % len(pairs)
    for turn, (kernel, rule) in enumerate(islice(cycle(pairs), start, start + tries)):
        if not left:
            return
        for case in _draw(share, target, kernel, rule, turn):
            left -= 1
            yield case, kernel


def _draw(share: Share, target: Target, kernel: str, rule: str, turn: int) -> list[Case]:
    """One case for a kernel and a rule, or none that is known to be computed right."""
    able = target.kernels[kernel]
    found: list[Case] = []

    @hypothesis.seed(
        Cell(target=share.target, kernel=kernel, rule=rule, property=f"{share.name}/{turn}").seed(share.seed)
    )
    @hypothesis.settings(
        # Hypothesis tries the simplest case first, with any seed: it comes on top of the drawn one.
        max_examples=2,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        verbosity=Verbosity.quiet,
    )
    @hypothesis.given(
        cases(
            RULES[rule], PROFILES[share.profile], dtypes=(share.dtype,), regimes=(share.regime,), kernel=able,
            applies=lambda problem: None,
        )
    )  # fmt: skip
    def body(case: Case) -> None:
        found.append(case)

    try:
        body()
    except Unsatisfiable:
        return []
    return [case for case in found[1:2] if target.known_good(able, case.problem) is True]


def summarise(measured: Sequence[MeasuredShare], environment: Mapping[str, str], seed: int) -> dict[str, Any]:
    """The calibration record: tau, and the figures it follows from, by kernel, dtype and regime."""
    everything = np.concatenate([x for share in measured for x in share.ratios.values()])
    overall = figures(everything)
    groups: dict[str, dict[str, list[np.ndarray]]] = {"kernel": {}, "dtype": {}, "regime": {}}
    for share in measured:
        for name, x in share.ratios.items():
            for group, key in (("kernel", name), ("dtype", share.dtype), ("regime", share.regime)):
                groups[group].setdefault(key, []).append(x)
    tokens = {token: ratio for share in measured for token, ratio in share.largest.items()}
    return {
        "tau": round(implied_tau(overall["max"], overall["p99.99"]), 2),
        "rule": "max(2 * max, 4 * p99.99)",
        "seed": seed,
        "cases": len(tokens),
        **overall,
        "worst": max(tokens, key=lambda token: _rank(tokens[token])),
        "environment": dict(environment),
        **{group: {key: figures(np.concatenate(x)) for key, x in sorted(of.items())} for group, of in groups.items()},
    }


def false_alarms(measured: Sequence[MeasuredShare], tau: float, seed: int, target: str) -> dict[str, Any]:
    """How many problems of correct kernels fail at tau, and the rate that so few imply with 95% confidence.

    No alarm in n problems: the rate is below 3 / n (the rule of three).
    """
    tokens = {token: ratio for share in measured for token, ratio in share.largest.items()}
    alarms = sorted(token for token, ratio in tokens.items() if not ratio <= tau)
    by = {
        group: {key: sum(len(x.largest) for x in measured if getattr(x, group) == key) for key in keys}
        for group, keys in (
            ("dtype", sorted({x.dtype for x in measured})),
            ("regime", sorted({x.regime for x in measured})),
        )
    }
    return {
        "target": target,
        "seed": seed,
        "tau": tau,
        "problems": len(tokens),
        "alarms": len(alarms),
        "rate_below": round(3 / len(tokens), 6) if tokens and not alarms else None,
        "largest_over_tau": round(max((ratio for ratio in tokens.values()), key=_rank) / tau, 4) if tokens else None,
        "failing": alarms,
        "problems_by": by,
    }


def figures(ratios: np.ndarray) -> dict[str, float]:
    """rows, quantiles and maximum of some row ratios."""
    if not ratios.size:
        return {"rows": 0}
    names = ("p50", "p99", "p99.9", "p99.99")
    quantiles = dict(zip(names, np.quantile(ratios, QUANTILES), strict=True))
    return {"rows": int(ratios.size), **{n: round(float(x), 4) for n, x in (quantiles | {"max": ratios.max()}).items()}}


def _rank(ratio: float) -> float:
    """A NaN is worse than any number."""
    return np.inf if np.isnan(ratio) else ratio
