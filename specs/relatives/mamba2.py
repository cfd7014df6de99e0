"""Mamba-2: a scalar decay per head, and inputs weighed by the step size."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from .system import States, System, outer, plain, stacked, start, times, value_heads


def recurrence(x: Mapping[str, Tensor], states: States, scale: float) -> tuple[Tensor, States]:
    v, dt = x["v"], x["dt"]
    C, B = (value_heads(x[name], v.shape[-2]) for name in "qk")
    A = x["g"].exp()
    h, y = start(states, *B.shape[1:], v.shape[-1]), []
    for t in range(len(v)):
        h = A[t, :, None, None] * h + outer(dt[t, :, None] * B[t], v[t])
        y.append(scale * times(C[t], h))
    return stacked(y, v), (h,)


MAMBA2 = System(
    name="mamba2",
    title="Mamba-2 (SSD)",
    source="arXiv 2405.21060, scalar SSM: h_t = A_t h_{t-1} + dt_t B_t x_t^T, y_t = C_t^T h_t",
    how="q, k, v = C, B, x; scalar g = A dt; no erase; w = dt",
    draw=lambda problem, inputs: plain(problem, inputs, g=inputs.g, dt=inputs.w),
    recurrence=recurrence,
)
