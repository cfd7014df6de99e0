"""A system built around the kernel agrees with that system's own published recurrence.

In plain torch the whole runs in fp64 and must keep 12 digits, forward and backward; where the input is too ill-conditioned for
that, fp64 rounding must explain the error. Kernels run in the problem's dtype, within a budget. Either way prefill and decode
together must give the results of one call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from ...kernels.registry import Kernel
from ...specs.budget import ratios
from ...specs.dtypes import TORCH_DTYPES
from ...specs.problem import Problem
from ...specs.relatives import SYSTEMS
from ...specs.rounding.contract import TOKEN_CONTRACTS, PrecisionContract, Rounding
from ..cases.replay import Case
from ..execution.contracts import SITES, contract_of, is_ours
from ..execution.harness import Harness
from ..execution.relatives import posed, run, run_in_parts
from ..execution.relatives_budget import sigma_of
from ..verdicts.outcome import KernelRaised, Outcome, held, place
from .base import Property

AGREEMENT = 1e-12
"""How far fp64 may be from the published recurrence, in units of a tensor's largest element."""

MOST_TOKENS, MOST_CHANNELS = 150, 40
"""Sizes up to which systems are judged: some take several steps per token, or a call per chunk."""

_FP64 = replace(
    TOKEN_CONTRACTS["fp32"], name="fp64", chunk=64, **dict.fromkeys(SITES, Rounding(unit=2.0**-53, quantum=0.0))
)
_STATES = {"state": "ht", "dstate": "dh0"}
"""Names under which budgets know the tensors that stay fp32."""


def check(case: Case, harness: Harness) -> Outcome:
    """Structure where fp64 disagrees; of a kernel, instability in fp32, precision in a narrower dtype."""
    problem, kernel = case.problem, harness.kernel
    call, truth = posed(problem)
    op = partial(kernel.run, config=case.config)
    exact = not kernel.needs_triton and is_ours(kernel)
    dtype = torch.float64 if exact else TORCH_DTYPES[problem.dtype]
    contract = _FP64 if exact else contract_of(kernel, case)
    kind = "structure" if exact else "instability" if problem.dtype == "fp32" else "precision"
    handed_on = kernel.accepts(replace(problem, initial_state=True, final_state=True)) is True
    cuts = _cuts(problem, decode=exact) if problem.lengths is None and handed_on else []
    try:
        whole = harness.watched(
            lambda: run(problem, call, op, dtype, gradients=kernel.differentiable, device=harness.device)
        )
        parts = harness.watched(lambda: run_in_parts(problem, call, op, dtype, cuts)) if cuts else {}
    except KernelRaised:
        raise
    except Exception as error:
        raise KernelRaised(
            f"{kernel.name} in {problem.rule.name}: {type(error).__name__}: {error}", "contract"
        ) from error
    # Where a batch is cut, whole chunks and their rounding differ, but the budget is the same.
    worst = held(0.0)
    for outputs, how in ((whole, ""), (parts, f" when cut at {cuts}")):
        found = _judge(problem, _float64(outputs), truth, contract, harness.tau, exact)
        if found.status == "failed":
            return replace(found, kind=kind, message=found.message + how)
        worst = max(worst, found, key=lambda outcome: outcome.ratio or 0.0)
    return worst


def _judge(
    problem: Problem, outputs: Mapping[str, np.ndarray], truth: Mapping[str, np.ndarray], contract: PrecisionContract,
    tau: float, exact: bool,
) -> Outcome:  # fmt: skip
    digits = {name: _distance(x, truth[name]) for name, x in outputs.items()}
    if exact and all(distance <= AGREEMENT for distance in digits.values()):
        return held(max(digits.values(), default=0.0) / AGREEMENT)
    known = lambda arrays: {_STATES.get(name, name): arrays[name] for name in outputs}  # noqa: E731
    rows = ratios(known(outputs), known(truth), known(sigma_of(problem, contract)), contract)
    worst, name = max(((float(x.max()), name) for name, x in rows.items() if x.size), default=(0.0, ""))
    if worst <= tau:
        return held(worst / tau)
    row = tuple(int(i) for i in np.unravel_index(int(rows[name].argmax()), rows[name].shape))
    original = next((ours for ours, theirs in _STATES.items() if theirs == name), name)
    expected, got = truth[original], outputs[original]
    index = row + tuple(
        int(i) for i in np.unravel_index(int(np.nan_to_num(np.abs(got - expected), nan=np.inf)[row].argmax()),
                                         expected.shape[len(row):])
    ) if expected.ndim > len(row) else row  # fmt: skip
    return Outcome(
        status="failed",
        ratio=worst / tau,
        kind="structure",
        place=place(problem, original, index),
        expected=float(expected[index]),
        got=float(got[index]),
        message=f"{original} of {SYSTEMS[problem.rule.name].title} is {worst:.3g} sigma off its own recurrence, "
        f"{digits[original]:.2g} of its largest element",
    )


def _distance(x: np.ndarray, truth: np.ndarray) -> float:
    """Largest error over the largest element; inf where only one of the two is finite."""
    if not x.size:
        return 0.0
    if not (np.isfinite(x).all() and np.isfinite(truth).all()):
        return 0.0 if np.array_equal(x, truth, equal_nan=True) else np.inf
    error, size = np.abs(x - truth).max(), np.abs(truth).max()
    return float(error / size) if size > 0 else float(error)


def _cuts(problem: Problem, *, decode: bool) -> list[int]:
    """Where to cut: a prefill, with `decode` some single tokens, and the rest."""
    if problem.T < 2:
        return []
    first = 1 + int(np.random.default_rng((problem.seed, 3)).integers(problem.T - 1))
    return [t for t in (first, first + 1, first + 2) if t < problem.T] if decode else [first]


def _float64(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    return {name: x.to("cpu", torch.float64).numpy() for name, x in outputs.items()}


def applies(kernel: Kernel, problem: Problem) -> str | None:
    """Options of the op belong to the op, which other properties judge."""
    system = SYSTEMS.get(problem.rule.name)
    if system is None:
        return "`relative` judges systems that a paper gives a recurrence of its own, and this is none"
    if problem.qk_l2norm or problem.gate_in_kernel or problem.strided or problem.gate_heads == "key":
        return "an option of the op, not of a system"
    if problem.H != problem.HV and not system.grouped:
        return f"{system.title} has no grouped heads"
    if kernel.accepts(replace(problem, final_state=True)) is not True:
        return "`relative` builds systems around a kernel, all of which need its final state, and this one returns none"
    if problem.dtype not in ("fp32", "bf16"):
        return "systems are judged in fp32 and bf16"
    if problem.B * problem.T * problem.HV > MOST_TOKENS or max(problem.K, problem.V) > MOST_CHANNELS:
        return "larger than what systems are judged on; size is the business of other properties"
    return None


RELATIVE = Property(
    name="relative",
    says="every system of the family, built around the kernel, agrees with its own published recurrence",
    arithmetic="faithful",
    kind="structure",
    catches=(
        "a wrong re-parameterisation",
        "a tie or substep that a kernel does not see",
        "a decode cache that lacks something",
    ),
    check=check,
    applies=applies,
    calls=6,
    on_device=True,
    relatives=True,
)
