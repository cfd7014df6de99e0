"""Gated DeltaNet-2, as one matrix per token."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v, w = x["v"], x["w"]
    q, k, g, b = (value_heads(x[name], v.shape[-2]) for name in "qkgb")
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    identity = torch.eye(k.shape[-1], dtype=k.dtype)
    for t in range(len(v)):
        decayed = torch.diag_embed(g[t].exp()) @ S
        S = (identity - outer(k[t], b[t] * k[t])) @ decayed + outer(k[t], w[t] * v[t])
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


GDN2 = System(
    name="gdn2",
    title="Gated DeltaNet-2 (erase gate in [0, 1] or [0, 2])",
    source="arXiv 2605.22791, Eq. 8-10: S_t = (I - k_t (b_t * k_t)^T) D_t S_{t-1} + k_t (w_t * v_t)^T",
    how="the rule itself",
    draw=lambda problem, inputs: plain(problem, inputs, g=inputs.g, b=inputs.b, w=inputs.w),
    recurrence=recurrence,
)
