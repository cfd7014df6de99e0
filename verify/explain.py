"""Where an error budget comes from: sigma of each output with noise at one rounding site at a time."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np

from ..specs.budget import budget
from ..specs.contract import CONTRACTS, EXACT, PrecisionContract
from ..specs.inputs import generate
from ..specs.problem import Problem

SITES = tuple(site.name for site in fields(PrecisionContract) if site.name != "name")
"""The rounding sites of a contract."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """One output: rms of its exact value and of its sigma, the budget's part from each site, and the worst row.

    condition: the largest sigma of a row over the output's own rounding there; large where the input is ill-conditioned.
    """

    output: str
    rms: float
    sigma: float
    by_site: dict[str, float]
    condition: float


def explain(problem: Problem) -> list[Share]:
    """Shares of every output, under the contract of the problem's dtype."""
    inputs, contract = generate(problem), CONTRACTS[problem.dtype]
    whole = budget(problem, inputs, contract)
    alone = {site: budget(problem, inputs, _only(contract, site)).sigma for site in SITES if contract.at(site) != EXACT}
    shares = []
    for name, truth in whole.reference.items():
        if not truth.size:
            continue
        rows, spreads = (np.linalg.norm(np.atleast_1d(x), axis=-1) for x in (truth, whole.sigma[name]))
        unit = contract.output.unit * np.where(rows > 0, rows, np.inf)
        shares.append(
            Share(
                output=name,
                rms=_rms(truth),
                sigma=_rms(whole.sigma[name]),
                by_site={site: _rms(sigma[name]) for site, sigma in alone.items()},
                condition=float(np.max(spreads / unit)),
            )
        )
    return shares


def _only(contract: PrecisionContract, site: str) -> PrecisionContract:
    silent = dict.fromkeys((other for other in SITES if other != site), EXACT)
    return replace(contract, name=f"{contract.name}, {site} only", **silent)


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))
