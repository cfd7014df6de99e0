"""Comba: a delta rule that reads at p = d k, before the decay in its kernels, after it in a published loop."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ..inputs.make import Inputs, rounded
from ..problem import Problem
from .system import Drawn, States, System, outer, plain, stacked, start, times, value_heads


def recurrence(
    x: Mapping[str, Tensor], states: States, scale: float, *, erase_before_decay: bool
) -> tuple[Tensor, States]:
    v, beta, alpha = x["v"], x["beta"], x["g"].exp()
    q, k = (value_heads(x[name], v.shape[-2]) for name in "qk")
    p = x["d"][:, None] * k
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    for t in range(len(v)):
        decayed = alpha[t, :, None, None] * S
        seen = times(p[t], S if erase_before_decay else decayed)
        S = decayed + outer(k[t], beta[t, :, None] * (v[t] - seen))
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


def draw(problem: Problem, inputs: Inputs) -> Drawn:
    """Decays no stronger than -20, since reading before the decay divides by it; both orders, in turn with the seed."""
    call = plain(problem, inputs, g=np.maximum(inputs.g, -20.0), beta=inputs.b)
    d = np.random.default_rng(problem.seed).uniform(0.1, 1, problem.HV)
    call.weights["d"] = rounded(d, "fp32")
    call.settings["erase_before_decay"] = problem.seed % 2 == 0
    return call


COMBA = System(
    name="comba",
    title="Comba (erase before or after decay)",
    source="arXiv 2506.02475: S_t = alpha_t S_{t-1} + beta_t k_t (v_t - p_t^T S_{t-1})^T, p = d k",
    how="w = beta; b = beta d, divided by exp(g) where the read comes before the decay",
    draw=draw,
    recurrence=recurrence,
)
