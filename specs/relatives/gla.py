"""Gated linear attention: a decay per key channel."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v = x["v"]
    q, k, g = (value_heads(x[name], v.shape[-2]) for name in "qkg")
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    for t in range(len(v)):
        S = torch.diag_embed(g[t].exp()) @ S + outer(k[t], v[t])
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


GLA = System(
    name="gla",
    title="GLA",
    source="arXiv 2312.06635, recurrent form: S_t = Diag(alpha_t) S_{t-1} + k_t v_t^T",
    how="channel-wise g; no erase",
    draw=lambda problem, inputs: plain(problem, inputs, g=inputs.g),
    recurrence=recurrence,
)
