"""The error budget of a relative: its re-parameterisation in fp64, around a rule that rounds as its contract declares.

What a re-parameterisation hands to the rule is rounded once more on the way: q, k and v to the problem's dtype, gates to
fp32. What comes back, outputs and gradients, passes through the re-parameterisation again, which carries the errors of
the rule on to the system's own tensors.
"""

from __future__ import annotations

import zlib
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...kernels import gated_delta_rule
from ...specs.budget import spread
from ...specs.inputs.make import Inputs
from ...specs.oracle.chunkwise import chunkwise
from ...specs.oracle.recurrence import solve
from ...specs.problem import Problem
from ...specs.rounding.contract import FP32, PrecisionContract
from ...specs.rounding.noise import Noisy
from ...specs.rule import Rule
from .relatives import posed, run

REPLICAS = 8
"""Noisy runs per budget. Fewer than for the rule itself: each costs a call from Python."""

_NAMES = ("q", "k", "v", "g", "b", "w", "h0")


@lru_cache(maxsize=4)
def sigma_of(problem: Problem, contract: PrecisionContract) -> dict[str, np.ndarray]:
    """How far rounding moves each output and gradient, in the root mean square.

    From the same call without rounding, not from the truth: a wrong re-parameterisation must not widen its own budget.
    """
    call, _ = posed(problem)
    noise = Noisy(contract, 1, np.random.default_rng(zlib.crc32(problem.token.encode())))
    op = partial(_noisy_rule, noise, contract)
    centre = run(problem, call, partial(gated_delta_rule, variant="torch"), torch.float64, gradients=True)
    runs = [run(problem, call, op, torch.float64, gradients=True) for _ in range(REPLICAS)]
    with np.errstate(invalid="ignore"):
        return {name: spread(np.stack([one[name].numpy() for one in runs]), x.numpy()) for name, x in centre.items()}


def _noisy_rule(
    noise: Noisy, contract: PrecisionContract, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None,
    b: Tensor | None = None, w: Tensor | None = None, *, scale: float | None = None, initial_state: Tensor | None = None,
    output_final_state: bool = False, cu_seqlens: Tensor | None = None,
) -> tuple[Tensor, Tensor | None]:  # fmt: skip
    """`gated_delta_rule` in the arithmetic of the budgets."""
    HV = v.shape[2]
    g, b = (None if x is None else x.repeat_interleave(HV // x.shape[2], 2) for x in (g, b))
    rule = Rule(
        name="any",
        decay="none" if g is None else "scalar" if g.dim() == 3 else "channel",
        erase="none" if b is None else "scalar" if b.dim() == 3 else "channel",
        write="tied" if w is None else "scalar" if w.dim() == 3 else "channel",
    )
    lengths = None if cu_seqlens is None else tuple(cu_seqlens.diff().tolist())
    problem = Problem(
        rule=rule, B=q.shape[0], T=q.shape[1], H=q.shape[2], HV=HV, K=q.shape[3], V=v.shape[3], lengths=lengths,
        initial_state=initial_state is not None, final_state=output_final_state, scale=scale,
    )  # fmt: skip
    o, ht = _NoisyRule.apply(noise, contract, problem, q, k, v, g, b, w, initial_state)
    return o, ht if output_final_state else None


class _NoisyRule(torch.autograd.Function):
    """Outputs and gradients of one replica. Each direction draws noise of its own."""

    @staticmethod
    def forward(ctx: Any, noise: Noisy, contract: PrecisionContract, problem: Problem, *tensors: Tensor | None) -> Any:
        gate = min(contract.operand.unit, FP32.unit)
        rng = np.random.default_rng(noise._rng.integers(2**32))
        arrays = {}
        for name, x in zip(_NAMES, tensors, strict=True):
            if x is not None:
                size = contract.operand.unit if name in "qkv" else gate
                arrays[name] = x.numpy() * (1 + size * rng.uniform(-1, 1, x.shape))
        ctx.settings = noise, contract, problem
        ctx.present = [x is not None for x in tensors]
        ctx.arrays = arrays
        N = len(problem.sequences)
        do, dht = (
            np.zeros((problem.B, problem.T, problem.HV, problem.V)),
            np.zeros((N, problem.HV, problem.K, problem.V)),
        )
        found = _solve(noise, contract, problem, arrays, do, dht)
        return torch.from_numpy(found["o"]), torch.from_numpy(found.get("ht", np.zeros(0)))

    @staticmethod
    def backward(ctx: Any, do: Tensor, dht: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        noise, contract, problem = ctx.settings
        found = _solve(noise, contract, problem, ctx.arrays, do.numpy(), dht.numpy())
        grads = [
            torch.from_numpy(found[f"d{name}"]) if there else None
            for name, there in zip(_NAMES, ctx.present, strict=True)
        ]
        return None, None, None, *grads


def _solve(
    noise: Noisy, contract: PrecisionContract, problem: Problem, arrays: dict[str, np.ndarray], do: np.ndarray,
    dht: np.ndarray,
) -> dict[str, np.ndarray]:  # fmt: skip
    inputs = Inputs(**arrays, do=do, dht=dht if problem.final_state else None)
    with np.errstate(invalid="ignore"):
        if contract.chunk is None:
            found = solve(problem, inputs, noise)
        else:
            found = chunkwise(problem, inputs, contract.chunk, noise).outputs
    # The noisy numbers carry an axis of replicas, of which there is one.
    return {name: np.ascontiguousarray(x[0]) for name, x in found.items()}
