"""Error budgets: how far from the truth an implementation may land that keeps its precision contract, on this input.

A float64 oracle is run again a dozen times with random rounding of the declared size at every declared site, forward
and backward: the chunkwise oracle for a chunkwise implementation, because its pairwise scores and their inverse are
real sites of rounding that the token recurrence does not have, and the token recurrence for one that goes token by
token. The spread of these replicas about the exact token recurrence, element by element, is sigma: it grows where the
problem is ill-conditioned and tightens where it is not. An implementation is judged by the ratio of its error to sigma,
row by row. (Monte Carlo arithmetic: D. S. Parker, 1997.)
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from .inputs.make import Inputs
from .oracle.chunkwise import chunkwise
from .oracle.options import stored_at
from .oracle.recurrence import solve
from .problem import Problem
from .rounding.contract import CONTRACTS, PrecisionContract
from .rounding.noise import Noisy

REPLICAS = 12
"""Noisy runs per budget: sigma is then known to about a fifth."""

_BATCH = 2**20
"""Most elements in the largest array of a noisy run, unless one replica alone has more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """The right results, and the error that rounding may cause.

    reference, sigma: per output name, in the output's shape. replicas: the noisy runs, [REPLICAS, *shape]; any quantity
    derived from outputs has its own sigma, the spread of that quantity over the replicas.
    """

    contract: PrecisionContract
    reference: Mapping[str, np.ndarray]
    sigma: Mapping[str, np.ndarray]
    replicas: Mapping[str, np.ndarray]

    def ratios(self, outputs: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Row ratios of an implementation's outputs; see `ratios`."""
        return ratios(outputs, self.reference, self.sigma, self.contract)


def budget(problem: Problem, inputs: Inputs, contract: PrecisionContract | None = None) -> Budget:
    """The budget of a problem under a contract (that of its dtype unless given). Deterministic."""
    contract = contract or CONTRACTS[problem.dtype]
    reference = solve(problem, inputs)
    fitting = max(1, _BATCH // _elements(problem, contract))
    at_once = max(size for size in range(1, REPLICAS + 1) if REPLICAS % size == 0 and size <= fitting)
    noisy = Noisy(contract, at_once, np.random.default_rng(zlib.crc32(problem.token.encode())))
    with np.errstate(invalid="ignore"):
        runs = [_run(problem, inputs, contract, noisy) for _ in range(REPLICAS // at_once)]
    replicas = {name: np.concatenate([run[name] for run in runs]) for name in reference}
    return Budget(
        contract=contract,
        reference=reference,
        replicas=replicas,
        sigma={name: spread(replicas[name], reference[name]) for name in reference},
    )


def _run(problem: Problem, inputs: Inputs, contract: PrecisionContract, numbers: Noisy) -> dict[str, np.ndarray]:
    if contract.chunk is None:
        return solve(problem, inputs, numbers)
    return chunkwise(problem, inputs, contract.chunk, numbers).outputs


def _elements(problem: Problem, contract: PrecisionContract) -> int:
    """Size of the largest array of one replica: a state, or the terms of all pairs of tokens of a chunk."""
    lanes = len(problem.sequences) * problem.HV
    if contract.chunk is None:
        return lanes * problem.K * problem.V
    return lanes * max(1, min(contract.chunk, problem.T)) ** 2 * problem.K


def spread(replicas: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Root mean square distance of replicas [R, ...] from the reference [...]."""
    return np.sqrt(np.mean((replicas - reference) ** 2, axis=0))


def ratios(
    outputs: Mapping[str, Any],
    reference: Mapping[str, np.ndarray],
    sigma: Mapping[str, np.ndarray],
    contract: PrecisionContract,
) -> dict[str, np.ndarray]:
    """Per output, the ratio rms(error) / rms(sigma) of every row.

    A row is one token and head (the features of o, dq, ..., or the one number of a scalar gate's gradient), one key channel of a
    state, or one entry of dA_log and ddt_bias. sigma is at least the error of storing the exact result. Where the reference and
    the output are not finite in the same places and alike, or the shapes differ, the ratio is inf; so it is for any error where
    sigma is 0. Raises KeyError for an output that is missing.
    """
    found = {}
    for name, truth in reference.items():
        output = _float64(outputs[name])
        stored = contract.at(stored_at(name))
        allowed = np.maximum(sigma[name], stored.amplitude(truth) / np.sqrt(3))
        found[name] = row_ratios(output, truth, allowed, by_entry=truth.ndim < 4, largest=stored.largest)
    return found


def _float64(x: Any) -> np.ndarray:
    if isinstance(x, torch.Tensor):
        return x.detach().to(device="cpu", dtype=torch.float64).numpy()
    return np.asarray(x, dtype=np.float64)


def row_ratios(
    output: np.ndarray, truth: np.ndarray, sigma: np.ndarray, *, by_entry: bool, largest: float = np.inf
) -> np.ndarray:
    """rms(error) / rms(sigma) of every row along the last axis, or of every element; see `ratios`.

    largest: the largest number that the output can hold. Where the truth is near or beyond it, infinity is as good.
    """
    if output.shape != truth.shape:
        return np.full(truth.shape if by_entry else truth.shape[:-1], np.inf)
    finite = np.isfinite(truth)
    ending = finite & (np.abs(truth) > largest / 2)
    output, truth = (np.where(ending, np.clip(x, -largest, largest), x) for x in (output, truth))
    # NaN stands where NaN stands, and each infinity where the same infinity stands.
    alike = np.where(finite, np.isfinite(output), (output == truth) | (np.isnan(output) & np.isnan(truth)))
    usable = finite & alike
    error = np.subtract(output, truth, where=usable, out=np.zeros_like(truth))
    allowed = np.where(usable, sigma, 0.0)
    if by_entry:
        alike, error, allowed = alike[..., None], error[..., None], allowed[..., None]
    top, bottom = np.linalg.norm(error, axis=-1), np.linalg.norm(allowed, axis=-1)
    ratio = np.divide(top, bottom, out=np.where(top > 0, np.inf, 0.0), where=bottom > 0)
    return np.where(alike.all(axis=-1), ratio, np.inf)
