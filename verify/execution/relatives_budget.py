"""The error budget of a relative: its re-parameterisation in fp64, around a rule that rounds as its contract declares.

The inputs that a re-parameterisation hands to the rule are rounded once more on the way: q, k and v to the problem's dtype, gates
to fp32. The outputs and gradients pass back through the re-parameterisation, which carries the errors of the rule on to the
system's own tensors.
"""

from __future__ import annotations

import zlib
from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

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
    centre = run(problem, call, partial(gated_delta_rule, variant="torch"), torch.float64, gradients=True)
    runs = []
    for _ in range(REPLICAS):
        with _Widening(noise, contract) as widening:
            op = partial(_noisy_rule, widening, noise, contract)
            runs.append(run(problem, call, op, torch.float64, gradients=True))
    with np.errstate(invalid="ignore"):
        return {name: spread(np.stack([one[name].numpy() for one in runs]), x.numpy()) for name, x in centre.items()}


def _noisy_rule(
    widening: _Widening, noise: Noisy, contract: PrecisionContract, q: Tensor, k: Tensor, v: Tensor, g: Tensor | None = None,
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
    widening.answers.append(o)
    return o, ht if output_final_state else None


class _Widening(TorchFunctionMode):
    """The rounding of a system that reads its own outputs, of the problem's dtype, in a wider one: the gradient that comes back
    from there is rounded to the problem's dtype before it is added to that of the outputs. Where the two cancel, little else is
    left.

    answers: outputs of the rule so far.
    """

    def __init__(self, noise: Noisy, contract: PrecisionContract) -> None:
        super().__init__()
        self.answers: list[Tensor] = []
        self._unit = contract.operand.unit
        self._rng = np.random.default_rng(noise._rng.integers(2**32))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        if func is not Tensor.to or not any(_share(args[0], answer) for answer in self.answers):
            return found
        factors = 1 + self._unit * self._rng.uniform(-1, 1, found.shape)
        return _ScaledGradient.apply(found, torch.from_numpy(factors))


def _share(x: Tensor, y: Tensor) -> bool:
    return x.untyped_storage().data_ptr() == y.untyped_storage().data_ptr()


class _ScaledGradient(torch.autograd.Function):
    """The identity, whose gradient is multiplied."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factors: Tensor) -> Tensor:
        ctx.save_for_backward(factors)
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, dx: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        (factors,) = ctx.saved_tensors
        return dx * factors, None


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
