"""Where an error budget comes from: sigma of each output with noise at one rounding site at a time."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ...kernels.registry import Kernel
from ...specs.budget import budget
from ...specs.inputs.make import generate
from ...specs.rounding.contract import EXACT, PrecisionContract
from ..cases.replay import Case
from ..execution.contracts import SITES, contract_of


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputShare:
    """One output: rms of its exact value, of its sigma, and of sigma with rounding at one site alone.

    condition: the largest sigma of a row over that row's own rounding; large where the input is ill-conditioned.
    """

    output: str
    rms: float
    sigma: float
    by_site: dict[str, float]
    condition: float


def explain(kernel: Kernel, case: Case) -> list[OutputShare]:
    """Shares of every output, under the contract that the kernel is held to on this case."""
    problem, contract = case.problem, contract_of(kernel, case)
    inputs = generate(problem)
    whole = budget(problem, inputs, contract)
    alone = {
        site: budget(problem, inputs, _only(contract, site)).sigma for site in SITES if getattr(contract, site) != EXACT
    }
    shares = []
    for name, truth in whole.reference.items():
        if not truth.size:
            continue
        rows, spreads = (np.linalg.norm(np.atleast_1d(x), axis=-1) for x in (truth, whole.sigma[name]))
        unit = contract.output.unit * np.where(rows > 0, rows, np.inf)
        shares.append(
            OutputShare(
                output=name,
                rms=_rms(truth),
                sigma=_rms(whole.sigma[name]),
                by_site={site: _rms(sigma[name]) for site, sigma in alone.items()},
                condition=float(np.max(spreads / unit)),
            )
        )
    return shares


def _only(contract: PrecisionContract, site: str) -> PrecisionContract:
    silent: dict[str, Any] = dict.fromkeys((other for other in SITES if other != site), EXACT)
    return replace(contract, name=f"{contract.name}, {site} only", **silent)


def _rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(x))))
