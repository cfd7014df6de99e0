"""Longhorn with one step size per head: an implicit update, stated as the linear system that it solves."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..inputs.make import Inputs
from ..problem import Problem
from .system import Drawn, States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v, beta = x["v"], x["beta"][..., None, None]
    q, k = (value_heads(x[name], v.shape[-2]) for name in "qk")
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(len(v)):
        S = torch.linalg.solve(identity + beta[t] * outer(k[t], k[t]), S + beta[t] * outer(k[t], v[t]))
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


def draw(problem: Problem, inputs: Inputs) -> Drawn:
    """No longer keys than 4, or fp64 itself loses the digits of the solve."""
    call = plain(problem, inputs, beta=inputs.b)
    call.tensors["k"] = np.clip(call.tensors["k"], -4, 4)
    return call


LONGHORN = System(
    name="longhorn",
    title="Longhorn (one step size per head)",
    source="arXiv 2407.14207, the implicit step: (I + beta_t k_t k_t^T) S_t = S_{t-1} + beta_t k_t v_t^T",
    how="b = w = beta / (1 + beta |k|^2)",
    draw=draw,
    recurrence=recurrence,
)
