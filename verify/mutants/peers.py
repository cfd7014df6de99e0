"""The same faults judged as others judge kernels: their tolerance, on the inputs that their tests draw.

Outputs and gradients are compared with the fp64 oracle. Inputs are normal, gates activations of normals, lengths a
multiple of the chunk and an odd one; unwritten memory is NaN, as in the better ones of those suites.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...kernels.registry import Kernel
from ...specs.inputs.make import Inputs, rounded
from ...specs.oracle.recurrence import solve
from ...specs.problem import Problem
from ...specs.rule import RULES
from ..cases.replay import Case
from ..execution import execute
from ..targets import load as load_target
from ..verdicts.outcome import KernelRaised
from .engines import transform_of
from .kept import forget
from .mutant import Mutant, Transform

GATES = ("dg", "db", "dw", "dA_log", "ddt_bias")
_BASELINE = "chunk_train/torch"
"""The same computation in plain PyTorch at the same dtype, whose error flash-attention's rule doubles."""

Accepts = Callable[[str, np.ndarray, np.ndarray, np.ndarray], bool]
"""(name of the output, output, truth, the baseline's output) -> whether the rule is content."""


def rms_ratio(name: str, output: np.ndarray, truth: np.ndarray, baseline: np.ndarray) -> bool:
    """flash-linear-attention's assert_close: rms(error) / rms(truth), 0.005 forward, 0.008 and for gates 0.02 backward."""
    limit = 0.02 if name in GATES else 0.008 if name.startswith("d") else 0.005
    return np.abs(output - truth).max() <= 1e-6 or _ratio(output, truth) < limit


def rms_ratio_in_ci(name: str, output: np.ndarray, truth: np.ndarray, baseline: np.ndarray) -> bool:
    """The same where FLA_CI_ENV is set: it only warns while the ratio is below 0.01 or no element is off by over 0.3."""
    if rms_ratio(name, output, truth, baseline):
        return True
    return _ratio(output, truth) < 0.01 or bool(np.abs(output - truth).max() <= 0.3)


def twice_the_baseline(name: str, output: np.ndarray, truth: np.ndarray, baseline: np.ndarray) -> bool:
    """flash-attention: at most twice (backward three times) the largest error of PyTorch at the same dtype, and a bit."""
    x = truth.astype(np.float32)
    slack = 2 * float(np.abs(x + np.float32(0.3) - np.float32(0.3) - x).max())
    factor = 3 if name.startswith("d") else 2
    return bool(np.abs(output - truth).max() <= factor * np.abs(baseline - truth).max() + slack)


def close_to_a_percent(name: str, output: np.ndarray, truth: np.ndarray, baseline: np.ndarray) -> bool:
    """allclose with both tolerances at 1e-2."""
    return bool(np.allclose(output, truth, rtol=1e-2, atol=1e-2))


RULES_OF_OTHERS: dict[str, Accepts] = {
    "FLA assert_close": rms_ratio,
    "FLA assert_close in CI": rms_ratio_in_ci,
    "flash-attention 2x": twice_the_baseline,
    "allclose 1e-2": close_to_a_percent,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerResult:
    """The rules that reject a fault."""

    id: str
    rejects: Mapping[str, bool]
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerTask:
    """users: (kernel, rule) pairs that run the mutated function."""

    mutant: Mutant
    target: str
    users: tuple[tuple[str, str], ...]


def run(task: PeerTask) -> PeerResult:
    """Run the usual tests until every rule has rejected the fault, or there are no more."""
    started = time.process_time()
    kernels = load_target(task.target).kernels
    transform = transform_of(task.mutant)
    target = task.target
    rejects = dict.fromkeys(RULES_OF_OTHERS, False)
    tests = [(kernel, usual_problems(rule)[index]) for index in range(3) for kernel, rule in task.users]
    for kernel, problem in tests:
        outputs = _outputs(kernels[kernel], problem, transform)
        for name, accepts in RULES_OF_OTHERS.items():
            # A rule that rejects the right kernel says nothing by rejecting a wrong one.
            if not rejects[name] and not content(accepts, problem, outputs):
                rejects[name] = name not in false_alarms(target, kernel, problem)
        if all(rejects.values()):
            break
    return PeerResult(id=task.mutant.id, rejects=rejects, seconds=round(time.process_time() - started, 3))


def crashed(mutant: Mutant) -> PeerResult:
    """A test whose process dies has failed."""
    return PeerResult(id=mutant.id, rejects=dict.fromkeys(RULES_OF_OTHERS, True), seconds=0.0)


@lru_cache(maxsize=256)
def false_alarms(target: str, kernel: str, problem: Problem) -> frozenset[str]:
    """The rules that reject a kernel without a fault."""
    outputs = _outputs(load_target(target).kernels[kernel], problem, None)
    return frozenset(name for name, accepts in RULES_OF_OTHERS.items() if not content(accepts, problem, outputs))


def content(accepts: Accepts, problem: Problem, outputs: Mapping[str, np.ndarray] | None) -> bool:
    """Whether a rule accepts all outputs. Nobody accepts an error, or an output that is not finite where the truth is."""
    if outputs is None:
        return False
    truth, baseline = _truth(problem), _baseline(problem)
    for name, x in outputs.items():
        if x.size and (not np.isfinite(x).all() or not accepts(name, x, truth[name], baseline[name])):
            return False
    return True


def score(results: Sequence[PeerResult]) -> dict[str, Any]:
    """Rule -> how many of these faults it rejects."""
    count = len(results)
    rejected = {name: sum(result.rejects[name] for result in results) for name in RULES_OF_OTHERS}
    return {
        name: {"killed": found, "of": count, "score": round(found / count, 4) if count else None}
        for name, found in rejected.items()
    }


def usual_problems(rule_name: str) -> Sequence[Problem]:
    """A multiple of the chunk in fp32; an odd length in bf16 with grouped heads; a packed batch in fp16 with all options."""
    rule = RULES[rule_name]
    plain = Problem(rule=rule, B=2, T=64, H=2, HV=2, K=32, V=32, seed=42)
    return (
        plain,
        replace(plain, B=1, T=83, HV=4, dtype="bf16"),
        replace(plain, B=1, T=79, lengths=(15, 64), dtype="fp16", qk_l2norm=True, gate_in_kernel=rule.decay != "none"),
    )


@lru_cache(maxsize=64)
def usual_inputs(problem: Problem) -> Inputs:
    """q, k of unit length unless normalised in the kernel, everything else normal; gates sigmoid or logsigmoid of normals."""
    rng = np.random.default_rng(problem.seed)
    rule, B, T, H, HV, K, V = (problem.rule, problem.B, problem.T, problem.H, problem.HV, problem.K, problem.V)
    G, N = problem.gate_rows, len(problem.sequences)

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape)

    def gate(tied: str, heads: int, channels: int) -> np.ndarray:
        return normal(B, T, heads) if tied == "scalar" else normal(B, T, heads, channels)

    q, k = normal(B, T, H, K), normal(B, T, H, K)
    if not problem.qk_l2norm:
        q, k = (x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (q, k))
    arrays: dict[str, np.ndarray] = {
        "q": q, "k": k, "v": normal(B, T, HV, V), "h0": normal(N, HV, K, V), "do": normal(B, T, HV, V),
        "dht": normal(N, HV, K, V),
    }  # fmt: skip
    if rule.decay != "none":
        raw = gate(rule.decay, G, K)
        arrays["g"] = raw if problem.gate_in_kernel else -np.logaddexp(0, -raw)
    if problem.gate_in_kernel:
        arrays["A_log"] = np.log(rng.uniform(1, 16, G))
        arrays["dt_bias"] = normal(G * (K if rule.decay == "channel" else 1))
    if rule.erase != "none":
        arrays["b"] = 1 / (1 + np.exp(-gate(rule.erase, G, K)))
    if rule.write != "tied":
        arrays["w"] = 1 / (1 + np.exp(-gate(rule.write, HV, V)))
    wide = execute.FP32_INPUTS
    return Inputs(**{name: rounded(x, "fp32" if name in wide else problem.dtype) for name, x in arrays.items()})


@lru_cache(maxsize=64)
def _truth(problem: Problem) -> Mapping[str, np.ndarray]:
    return solve(problem, usual_inputs(problem))


@lru_cache(maxsize=64)
def _baseline(problem: Problem) -> Mapping[str, np.ndarray]:
    kernel = load_target("deltaproof").kernels[_BASELINE]
    outputs = _outputs(kernel, problem, None)
    assert outputs is not None
    return outputs


def _outputs(kernel: Kernel, problem: Problem, transform: Transform | None) -> dict[str, np.ndarray] | None:
    """None where the kernel raises. Accesses out of bounds read nothing and are not reported: nobody looks."""
    from ..interpreter import session

    case = Case(problem=problem, config=kernel.configs(problem)[0])
    made = execute.tensors(problem, usual_inputs(problem))
    forget()
    try:
        with session(memory=True, transform=transform):
            outputs = execute.run(kernel, case, made, gradients=kernel.differentiable)
    except KernelRaised:
        return None
    return {name: x.astype(np.float64) for name, x in execute.as_numpy(outputs).items()}


def _ratio(output: np.ndarray, truth: np.ndarray) -> float:
    return float(np.sqrt(np.mean((output - truth) ** 2)) / (np.sqrt(np.mean(truth**2)) + 1e-8))
