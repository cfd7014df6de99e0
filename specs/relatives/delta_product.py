"""Gated DeltaProduct: a product of Householder-like factors per token."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..inputs.make import Inputs
from ..problem import Problem
from .system import Drawn, States, System, another, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v, beta, alpha = x["v"], x["beta"][..., None, None], x["g"].exp()[..., None, None]
    HV = v.shape[-2]
    q, k = (value_heads(x[name], HV) for name in "qk")
    S, o = start(states, *k.shape[2:], v.shape[-1]), []
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(len(v)):
        S = alpha[t] * S
        for j in range(k.shape[1]):
            S = (identity - beta[t, j] * outer(k[t, j], k[t, j])) @ S + beta[t, j] * outer(k[t, j], v[t, j])
        o.append(scale * times(q[t], S))
    return stacked(o, q[..., :0].new_zeros(0, HV, v.shape[-1])), (S,)


def draw(problem: Problem, inputs: Inputs) -> Drawn:
    """Two or three steps per token, in turn with the seed."""
    steps = [inputs, *(another(problem, turn) for turn in range(1, 2 + problem.seed % 2))]
    call = plain(problem, inputs, g=inputs.g)
    call.tensors.update(
        k=np.stack([one.k for one in steps], 2),
        v=np.stack([one.v for one in steps], 2),
        beta=np.stack([one.b for one in steps], 2),
    )
    return call


DELTA_PRODUCT = System(
    name="delta_product",
    title="Gated DeltaProduct",
    source="arXiv 2502.10297: A_t = exp(g_t) prod_j (I - beta_{t,j} k_{t,j} k_{t,j}^T), every factor with its own write",
    how="n steps of the rule per token: g on the first, q on the last",
    draw=draw,
    recurrence=recurrence,
)
