"""Kimi Delta Attention: the delta rule with a decay per key channel, which comes first."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v, beta = x["v"], x["beta"][..., None, None]
    q, k, g = (value_heads(x[name], v.shape[-2]) for name in "qkg")
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(len(v)):
        S = (identity - beta[t] * outer(k[t], k[t])) @ torch.diag_embed(g[t].exp()) @ S + beta[t] * outer(k[t], v[t])
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


KDA = System(
    name="kda",
    title="KDA",
    source="arXiv 2510.26692: S_t = (I - beta_t k_t k_t^T) Diag(alpha_t) S_{t-1} + beta_t k_t v_t^T",
    how="channel-wise g; b = w = beta",
    draw=lambda problem, inputs: plain(problem, inputs, g=inputs.g, beta=inputs.b),
    recurrence=recurrence,
)
