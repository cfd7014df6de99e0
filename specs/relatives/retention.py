"""RetNet's retention: a fixed rate of forgetting per head."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v = x["v"]
    q, k = (value_heads(x[name], v.shape[-2]) for name in "qk")
    gamma = 1 - 2.0 ** (-5 - torch.arange(v.shape[-2], dtype=torch.float64))
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    for t in range(len(v)):
        S = gamma[:, None, None] * S + outer(k[t], v[t])
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


RETENTION = System(
    name="retnet",
    title="RetNet",
    source="arXiv 2307.08621, recurrent representation: S_n = gamma S_{n-1} + K_n^T V_n, gamma = 1 - 2^(-5-h)",
    how="g = log gamma, one number per head",
    draw=lambda problem, inputs: plain(problem, inputs),
    recurrence=recurrence,
)
