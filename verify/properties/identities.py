"""Identities between gradients that follow from symmetries of the rule. They need no oracle and name token and channel.

Per token, with E = b db (summed over key channels where b is one number) and sums over a key head's value heads:

    I1   q . dq = o . do                              q enters only through o
    I2   v . dv = w . dw                              v and w enter only as their product
    I5   k . dk = 2 E + v . dv                        scaling k by c, b by 1/c^2 and w by 1/c changes nothing
    I6   dg_t - dg_{t+1} = q dq - k dk + 2 E          a change of basis per channel changes nothing; after the last
                                                      token, sum_v ht dht stands for dg
    I7   dg_1 = sum_v h0 dh0                          the first decay scales the initial state

A residual is judged like an error: its sigma is its spread over the noisy replicas of the oracle. In one replica the
errors of o and dq, say, come from the same state and cancel; a kernel reaches them on different ways. So every output
is taken from another replica.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...specs.budget import Budget
from ...specs.inputs.make import Inputs, generate
from ...specs.problem import Problem
from ..cases.case import Case
from ..execution.contracts import budget_of, contract_of
from ..execution.harness import Harness
from ..verdicts.outcome import Outcome, held, place
from .base import Property

Arrays = Mapping[str, np.ndarray]


def check(case: Case, harness: Harness) -> Outcome:
    """The largest residual over its sigma, of all identities that the rule and the options have."""
    problem, inputs = case.problem, generate(case.problem)
    outputs = harness.faithful(case, inputs, gradients=True)
    found = residuals(problem, inputs, {name: x.astype(np.float64) for name, x in outputs.items()})
    worst = worst_residual(problem, inputs, found, budget_of(problem, contract_of(harness.kernel, case)))
    if worst is None or worst[0] <= harness.tau:
        return held(0.0 if worst is None else worst[0] / harness.tau)
    ratio, name, index = worst
    return Outcome(
        status="failed",
        kind="instability" if problem.dtype == "fp32" else "precision",
        ratio=ratio / harness.tau,
        place=place(problem, _ABOUT[name], index),
        expected=0.0,
        got=float(found[name][index]),
        message=f"{name} is off by {ratio:.3g} sigma, {ratio / harness.tau:.3g} times its budget",
    )


def worst_residual(
    problem: Problem, inputs: Inputs, found: Arrays, allowed: Budget
) -> tuple[float, str, tuple[int, ...]] | None:
    """(residual over sigma, identity, index) of the worst row of all identities; None if the problem has none."""
    noisy = residuals(problem, inputs, _independent(allowed.replicas))
    return max((_worst(name, residual, noisy[name]) for name, residual in found.items()), default=None)


_ABOUT = {
    "q.dq = o.do": "dq",
    "v.dv = w.dw": "dw",
    "k.dk = 2 b.db + v.dv": "dk",
    "dg_t - dg_(t+1) = q dq - k dk + 2 b db": "dg",
    "dg_1 = h0.dh0": "dg",
}
"""Identity -> the gradient that it is about."""


def residuals(problem: Problem, inputs: Inputs, outputs: Arrays) -> dict[str, np.ndarray]:
    """Left side less right side of every identity, [..., B, T, H, channels] (I7: only the first tokens, others 0).

    Outputs may carry leading axes; states are [..., N, HV, K, V].
    """
    I1, I2, I5, I6, I7 = _ABOUT
    rule = problem.rule
    x = _Products(problem, inputs, outputs)
    found = {}
    o_do, v_dv = x.product("o", "do"), x.product("v", "dv")
    if not problem.qk_l2norm:
        found[I1] = _total(x.product("q", "dq")) - _total(o_do)
    if rule.write == "channel":
        found[I2] = v_dv - x.product("w", "dw")
    elif rule.write == "scalar":
        found[I2] = _total(v_dv) - x.product("w", "dw")
    if problem.qk_l2norm:
        return found
    q_dq, k_dk = x.product("q", "dq"), x.product("k", "dk")
    erased = 0.0 if rule.erase == "none" else x.product("b", "db")
    if rule.erase == "scalar" and rule.write == "tied":
        erased = erased - _total(v_dv)
    found[I5] = _total(k_dk) - 2 * _total(erased) - _total(v_dv)
    if rule.decay == "none" or problem.gate_in_kernel:
        return found
    channelwise = rule.decay == "channel" and rule.erase != "scalar"
    narrow = (lambda y: y) if channelwise else _total
    dg, last, first = narrow(x.of("dg")), x.last(narrow), x.first(narrow)
    found[I6] = dg - _next(problem, dg, last) - narrow(q_dq) + narrow(k_dk) - 2 * narrow(erased)
    if problem.initial_state:
        found[I7] = np.zeros_like(found[I6])
        for index, (row, start, length) in enumerate(problem.sequences):
            if length:
                found[I7][..., row, start, :, :] = dg[..., row, start, :, :] - first[..., index, :, :]
    return found


def _independent(replicas: Arrays) -> dict[str, np.ndarray]:
    """Replicas [R, ...] shifted against each other, so that no two outputs share their noise."""
    return {name: np.roll(x, shift, axis=0) for shift, (name, x) in enumerate(replicas.items())}


class _Products:
    """Products of a tensor with its gradient, summed over the value heads of each key head."""

    def __init__(self, problem: Problem, inputs: Inputs, outputs: Arrays) -> None:
        self._problem = problem
        self._tensors: dict[str, Any] = {**inputs.arrays(), **outputs}

    def product(self, name: str, gradient: str) -> np.ndarray:
        """[..., B, T, H, channels], channels 1 for a scalar gate."""
        return self.to_key_heads(self._wide(name) * self._wide(gradient))

    def of(self, name: str) -> np.ndarray:
        """One tensor, likewise."""
        return self.to_key_heads(self._wide(name))

    def _wide(self, name: str) -> np.ndarray:
        rule = self._problem.rule
        tied = {"g": rule.decay, "b": rule.erase, "w": rule.write}
        x = self._tensors[name]
        return x[..., None] if tied.get(name.removeprefix("d")) == "scalar" else x

    def to_key_heads(self, x: np.ndarray) -> np.ndarray:
        """[..., heads, channels] -> [..., H, channels]."""
        H, heads = self._problem.H, x.shape[-2]
        return x.reshape((*x.shape[:-2], H, heads // H, x.shape[-1])).sum(-2)

    def first(self, narrow: Any) -> np.ndarray:
        """sum_v h0 dh0, [..., N, H, K or 1]."""
        return self._states("h0", "dh0", narrow)

    def last(self, narrow: Any) -> np.ndarray:
        """sum_v ht dht, [..., N, H, K or 1]."""
        return self._states("ht", "dht", narrow)

    def _states(self, state: str, gradient: str, narrow: Any) -> np.ndarray:
        if state not in self._tensors or gradient not in self._tensors:
            problem = self._problem
            return narrow(np.zeros((len(problem.sequences), problem.H, problem.K)))
        return narrow(self.to_key_heads((self._tensors[state] * self._tensors[gradient]).sum(-1)))


def _total(x: Any) -> Any:
    return x.sum(-1, keepdims=True) if isinstance(x, np.ndarray) else x


def _next(problem: Problem, dg: np.ndarray, last: np.ndarray) -> np.ndarray:
    """dg of the following token; after the last of a sequence, the value given by its final state."""
    following = np.zeros_like(dg)
    for index, (row, start, length) in enumerate(problem.sequences):
        if length:
            following[..., row, start : start + length - 1, :, :] = dg[..., row, start + 1 : start + length, :, :]
            following[..., row, start + length - 1, :, :] = last[..., index, :, :]
    return following


def _worst(name: str, residual: np.ndarray, noisy: np.ndarray) -> tuple[float, str, tuple[int, ...]]:
    """(ratio, identity, index) of the worst row; a residual that is not finite is infinitely bad."""
    if not residual.size:
        return 0.0, name, ()
    with np.errstate(invalid="ignore", over="ignore"):
        error = np.linalg.norm(residual, axis=-1)
        sigma = np.linalg.norm(np.sqrt(np.mean(noisy**2, axis=0)), axis=-1)
    ratio = np.divide(error, sigma, out=np.where(error > 0, np.inf, 0.0), where=sigma > 0)
    # Where the oracle itself is not finite, the identity says nothing.
    ratio = np.where(np.isfinite(sigma), np.where(np.isfinite(error), ratio, np.inf), 0.0)
    row = np.unravel_index(int(ratio.argmax()), ratio.shape)
    channel = int(np.where(np.isnan(residual[row]), np.inf, np.abs(residual[row])).argmax())
    return float(ratio[row]), name, (*(int(i) for i in row), channel)


IDENTITIES = Property(
    name="identities",
    says="gradients keep the identities that the symmetries of the rule imply",
    arithmetic="faithful",
    kind="instability",
    catches=("one wrong gradient", "gradient at a sequence boundary"),
    check=check,
    uses_oracle=True,
    needs_gradients=True,
    on_device=True,
    as_compiled=True,
)
