"""Inputs and small references that the experiments share, all fp64 torch on a CPU, one head."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

EXACT = 1e-12
"""The largest difference that counts as equal in fp64: thousands of roundings."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tokens:
    """q, k, g, b [T, K]; v, w [T, V]; S0 [K, V]. Keys have unit length, gates lie in [0, 1], decays are e^-0.5 to 1."""

    q: Tensor
    k: Tensor
    v: Tensor
    g: Tensor
    b: Tensor
    w: Tensor
    S0: Tensor


def draw(T: int = 48, K: int = 8, V: int = 6, seed: int = 0) -> Tokens:
    make = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=make)

    def uniform(*shape: int) -> Tensor:
        return torch.rand(*shape, dtype=torch.float64, generator=make)

    return Tokens(
        q=unit(normal(T, K)), k=unit(normal(T, K)), v=normal(T, V), g=-0.5 * uniform(T, K), b=uniform(T, K),
        w=uniform(T, V), S0=0.5 * normal(K, V),
    )  # fmt: skip


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


def recurrence(x: Tokens) -> tuple[Tensor, Tensor]:
    """Gated DeltaNet-2, Eq. 8-10, token by token: outputs [T, V] without a scale, and the last state."""
    S, o = x.S0, []
    for t in range(len(x.k)):
        decayed = x.g[t].exp()[:, None] * S
        S = decayed + torch.outer(x.k[t], x.w[t] * x.v[t] - decayed.T @ (x.b[t] * x.k[t]))
        o.append(S.T @ x.q[t])
    return torch.stack(o), S


def off(x: Tensor, truth: Tensor) -> float:
    """Relative distance, in the Frobenius norm; inf for anything not finite."""
    if not bool(torch.isfinite(x).all()):
        return float("inf")
    return float((x - truth).norm() / truth.norm().clamp(min=1e-300))


def op(x: Tokens, **changes: Tensor | None) -> tuple[Tensor, Tensor]:
    """Our chunkwise op in plain torch on the same tokens; `changes` replace gates, None leaving one out."""
    from ...kernels import gated_delta_rule

    gates = {name: changes[name] if name in changes else getattr(x, name) for name in "gbw"}
    g, b, w = (None if y is None else y[None, :, None] for y in gates.values())
    o, state = gated_delta_rule(
        x.q[None, :, None], x.k[None, :, None], x.v[None, :, None], g, b, w, scale=1.0,
        initial_state=x.S0[None, None], output_final_state=True, variant="torch",
    )  # fmt: skip
    assert state is not None
    return o[0, :, 0], state[0, 0]
