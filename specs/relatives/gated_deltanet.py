"""Gated DeltaNet: the delta rule with a scalar decay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v, beta, alpha = x["v"], x["beta"][..., None, None], x["g"].exp()[..., None, None]
    q, k = (value_heads(x[name], v.shape[-2]) for name in "qk")
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(len(v)):
        S = (alpha[t] * (identity - beta[t] * outer(k[t], k[t]))) @ S + beta[t] * outer(k[t], v[t])
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


GATED_DELTANET = System(
    name="gdn",
    title="Gated DeltaNet",
    source="arXiv 2412.06464: S_t = S_{t-1} (alpha_t (I - beta_t k_t k_t^T)) + beta_t v_t k_t^T",
    how="scalar g; b = w = beta",
    draw=lambda problem, inputs: plain(problem, inputs, g=inputs.g, beta=inputs.b),
    recurrence=recurrence,
)
