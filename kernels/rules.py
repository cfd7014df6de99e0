"""The named rules as calls: `gated_delta_rule` with the gates that each one has."""

from __future__ import annotations

from typing import Any

import torch

from .api import gated_delta_rule, with_options
from .arguments.axes import dense, sort_of

Tensor = torch.Tensor
Result = tuple[Tensor, Tensor | None]


@with_options
def gdn2(q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor, **options: Any) -> Result:
    """Gated DeltaNet-2 (arXiv 2605.22791): g, b [B, T, G, K] and w [B, T, HV, V]; options as `gated_delta_rule`."""
    return gated_delta_rule(q, k, v, _rank(g, 4, "g"), _rank(b, 4, "b"), _rank(w, 4, "w"), **options)


@with_options
def kda(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **options: Any) -> Result:
    """Kimi Delta Attention (arXiv 2510.26692): g [B, T, G, K], beta [B, T, HV] erases and writes."""
    return gated_delta_rule(q, k, v, _rank(g, 4, "g"), _rank(beta, 3, "beta"), **options)


@with_options
def gdn(q: Tensor, k: Tensor, v: Tensor, g: Tensor, beta: Tensor, **options: Any) -> Result:
    """Gated DeltaNet (arXiv 2412.06464): g and beta [B, T, HV]."""
    return gated_delta_rule(q, k, v, _rank(g, 3, "g"), _rank(beta, 3, "beta"), **options)


@with_options
def delta_rule(q: Tensor, k: Tensor, v: Tensor, beta: Tensor, **options: Any) -> Result:
    """DeltaNet (arXiv 2406.06484): beta [B, T, HV], no decay."""
    return gated_delta_rule(q, k, v, None, _rank(beta, 3, "beta"), **options)


@with_options
def gla(q: Tensor, k: Tensor, v: Tensor, g: Tensor, **options: Any) -> Result:
    """Gated linear attention (arXiv 2312.06635): g [B, T, G, K], nothing is erased."""
    return gated_delta_rule(q, k, v, _rank(g, 4, "g"), **options)


@with_options
def mamba2(q: Tensor, k: Tensor, v: Tensor, g: Tensor, dt: Tensor | None = None, **options: Any) -> Result:
    """Mamba-2 (arXiv 2405.21060), with q = C, k = B, v = x: g = A dt [B, T, HV], and dt [B, T, HV] weighs the writes."""
    return gated_delta_rule(q, k, v, _rank(g, 3, "g"), None, None if dt is None else _rank(dt, 3, "dt"), **options)


@with_options
def linear(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Result:
    """Linear attention (arXiv 2006.16236) without its normaliser."""
    return gated_delta_rule(q, k, v, **options)


def _rank(gate: Tensor, rank: int, name: str) -> Tensor:
    """Raises TypeError for no tensor, ValueError for a gate of another rank: a tie is a property of the rule, not of the data."""
    if not dense(gate):
        raise TypeError(f"{name} is {sort_of(gate)}; accepted: a dense tensor")
    if gate.dim() != rank:
        accepted = "[B, T, heads]" if rank == 3 else "[B, T, heads, channels]"
        raise ValueError(f"{name} has shape {tuple(gate.shape)}; this rule takes {accepted}")
    return gate
