"""Where tau comes from: row ratios of known-good kernels on the problems that verification draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import hypothesis
import numpy as np
from hypothesis import HealthCheck, Phase, Verbosity

from ..results.calibration import implied_tau
from ..specs.budget import ratios
from ..specs.inputs import generate
from ..specs.rule import RULES
from .case import Case, Replay
from .check import Cell
from .contracts import budget_of, contract_of
from .harness import Harness
from .profiles import Profile
from .strategies import cases, regimes_of
from .targets import load as load_target

QUANTILES = (0.5, 0.99, 0.999, 0.9999)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Row ratios of one kernel on one rule, by "dtype/regime", and the case that has the largest."""

    kernel: str
    rule: str
    ratios: Mapping[str, np.ndarray]
    largest: float
    worst: str
    cases: int


def measure(target: str, kernel_name: str, rule: str, profile: Profile, examples: int, seed: int) -> Rows:
    """Ratios of every row of every output over drawn cases. Does not judge: a wrong kernel shows as a huge ratio."""
    kernels = load_target(target).kernels
    kernel = kernels[kernel_name]
    harness = Harness(kernel=kernel, kernels=kernels)
    found: dict[str, list[np.ndarray]] = {}
    largest, worst, count = -1.0, "", 0

    @hypothesis.seed(Cell(target=target, kernel=kernel_name, rule=rule, property="calibrate").seed(seed))
    @hypothesis.settings(
        max_examples=examples,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),  # pyright: ignore[reportArgumentType]
        verbosity=Verbosity.quiet,
    )
    @hypothesis.given(
        cases(
            RULES[rule], profile, dtypes=("fp32", "bf16", "fp16"), regimes=regimes_of(RULES[rule]),
            kernel=kernel, applies=lambda problem: None,
        )
    )  # fmt: skip
    def body(case: Case) -> None:
        nonlocal largest, worst, count
        rows = row_ratios(harness, case)
        count += 1
        found.setdefault(f"{case.problem.dtype}/{case.problem.regime}", []).append(rows)
        if rows.size and not rows.max() <= largest:
            replay = Replay(prop="error", kernel=kernel_name, case=case)
            largest, worst = float(rows.max()), replay.token

    body()
    pooled = {name: np.concatenate(parts) for name, parts in found.items()}
    return Rows(kernel=kernel_name, rule=rule, ratios=pooled, largest=largest, worst=worst, cases=count)


def row_ratios(harness: Harness, case: Case) -> np.ndarray:
    """Error over sigma of every row of every output of one case, in one flat array."""
    outputs = harness.faithful(case, generate(case.problem), gradients=harness.kernel.differentiable)
    allowed = budget_of(case.problem, contract_of(harness.kernel, case))
    reference = {name: truth for name, truth in allowed.reference.items() if name in outputs}
    found = ratios(outputs, reference, allowed.sigma, allowed.contract)
    return np.concatenate([np.zeros(0), *(rows.ravel() for rows in found.values())])


def summarise(measured: Sequence[Rows], environment: Mapping[str, str]) -> dict[str, Any]:
    """The calibration record: tau, and the figures it follows from, by kernel, dtype and regime."""
    everything = np.concatenate([x for rows in measured for x in rows.ratios.values()])
    overall = figures(everything)
    groups: dict[str, dict[str, list[np.ndarray]]] = {"kernel": {}, "dtype": {}, "regime": {}}
    for rows in measured:
        for name, x in rows.ratios.items():
            dtype, _, regime = name.partition("/")
            for group, key in (("kernel", rows.kernel), ("dtype", dtype), ("regime", regime)):
                groups[group].setdefault(key, []).append(x)
    worst = max(measured, key=lambda rows: rows.largest)
    return {
        "tau": round(implied_tau(overall["max"], overall["p99.99"]), 2),
        "rule": "max(2 * max, 4 * p99.99)",
        "cases": sum(rows.cases for rows in measured),
        **overall,
        "worst": worst.worst,
        "environment": dict(environment),
        **{group: {key: figures(np.concatenate(x)) for key, x in sorted(of.items())} for group, of in groups.items()},
    }


def figures(ratios: np.ndarray) -> dict[str, float]:
    """rows, quantiles and maximum of some row ratios."""
    if not ratios.size:
        return {"rows": 0}
    names = ("p50", "p99", "p99.9", "p99.99")
    quantiles = dict(zip(names, np.quantile(ratios, QUANTILES), strict=True))
    return {"rows": int(ratios.size), **{n: round(float(x), 4) for n, x in (quantiles | {"max": ratios.max()}).items()}}
