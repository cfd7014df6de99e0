"""Linear attention without its normaliser."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v = x["v"]
    q, k = (value_heads(x[name], v.shape[-2]) for name in "qk")
    S, o = start(states, *k.shape[1:], v.shape[-1]), []
    for t in range(len(v)):
        S = S + outer(k[t], v[t])
        o.append(scale * times(q[t], S))
    return stacked(o, v), (S,)


LINEAR = System(
    name="linear",
    title="linear attention",
    source="arXiv 2006.16236, the recurrent form: S_t = S_{t-1} + phi(k_t) v_t^T",
    how="no gates",
    draw=lambda problem, inputs: plain(problem, inputs),
    recurrence=recurrence,
)
