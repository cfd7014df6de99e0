"""DeltaNet: the delta rule without decay."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v, beta = x["v"], x["beta"][..., None, None]
    q, k = (value_heads(x[name], v.shape[-2]) for name in "qk")
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(len(v)):
        S = (identity - beta[t] * outer(k[t], k[t])) @ S + beta[t] * outer(k[t], v[t])
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


DELTA_RULE = System(
    name="delta_rule",
    title="DeltaNet",
    source="arXiv 2406.06484: S_t = S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T",
    how="b = w = beta",
    draw=lambda problem, inputs: plain(problem, inputs, beta=inputs.b),
    recurrence=recurrence,
)
