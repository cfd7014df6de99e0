"""RWKV-7's generalised delta rule."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from ..inputs.make import Inputs, rounded
from ..problem import Problem
from .system import Drawn, States, System, another, no_longer, outer, plain, stacked, start, times


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    """The paper's state is [V, K]; this is its transpose."""
    r, w, k, v, kk, a = (x[name] for name in ("r", "w", "k", "v", "kk", "a"))
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    for t in range(len(v)):
        transition = torch.diag_embed(w[t].exp()) - outer(a[t] * kk[t], kk[t])
        S = transition @ S + outer(k[t], v[t])
        o.append(scale * times(r[t], S))
    return stacked(o, v), (S,)


def draw(problem: Problem, inputs: Inputs) -> Drawn:
    """RWKV-7's own ranges: its decays, kk no longer than 1, and a in [0.1, 1], since a sigmoid is never 0."""
    call = plain(problem, inputs)
    call.tensors.clear()
    call.tensors.update(
        r=inputs.q,
        w=rounded(np.maximum(inputs.g, -np.exp(-0.5)), "fp32"),
        k=another(problem, 1).k,
        v=inputs.v,
        kk=rounded(no_longer(inputs.k, 1.0), problem.dtype),
        a=rounded(0.1 + 0.9 * np.minimum(inputs.b, 1), problem.dtype),
    )
    return call


RWKV7 = System(
    name="rwkv7",
    title="RWKV-7",
    source="arXiv 2503.14456: S_t = S_{t-1} (diag(w_t) - kk_t^T (a_t * kk_t)) + v_t^T k_t",
    how="two steps of the rule per token: key a * kk with b = exp(-w) / a and no write, then k with no decay and no erase",
    draw=draw,
    recurrence=recurrence,
    grouped=False,
)
