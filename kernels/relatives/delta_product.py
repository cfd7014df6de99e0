"""Gated DeltaProduct (arXiv 2502.10297): several delta steps per token, of which the first decays and the last is read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..api import gated_delta_rule, with_options
from ..arguments.axes import check_axes
from ..arguments.checks import check_boundaries
from .substeps import first_of, last_of, spread


@with_options
def gated_delta_product(
    q: Tensor,  # [B, T, H, K]
    k: Tensor,  # [B, T, n, H, K]
    v: Tensor,  # [B, T, n, HV, V]
    g: Tensor | None,  # [B, T, HV]
    beta: Tensor,  # [B, T, n, HV]
    *,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    op: Callable[..., Any] = gated_delta_rule,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """S <- prod_j (I - beta_j k_j k_j^T) exp(g) S + ..., n delta steps in turn; o = scale * S^T q after the last.

    Every token becomes n tokens of the rule. Options as `gated_delta_rule`; those that a chunked kernel pays per token it
    pays n times.
    """
    check_axes(
        q=(q, "B T H K"), k=(k, "B T n H K"), v=(v, "B T n HV V"), g=(g, "B T HV or None"), beta=(beta, "B T n HV")
    )
    check_boundaries(cu_seqlens, cu_seqlens_cpu, q.shape[0], q.device)
    n = k.shape[2]
    o, state = op(
        q=last_of(q, n),
        k=k.flatten(1, 2),
        v=v.flatten(1, 2),
        g=None if g is None else first_of(g, n),
        b=beta.flatten(1, 2),
        w=None,
        **spread(cu_seqlens, cu_seqlens_cpu, n),
        **options,
    )
    return o[:, n - 1 :: n], state


def dividing_steps(k: Tensor, v: Tensor, beta: Tensor, n: int) -> tuple[Tensor, Tensor, Tensor]:
    """[B, T * n, ...] as flash-linear-attention packs the steps -> [B, T, n, ...]. Raises ValueError if n does not divide."""
    check_axes(k=(k, "B S H K"), v=(v, "B S HV V"), beta=(beta, "B S HV"))
    if type(n) is not int or n < 1:
        raise ValueError(f"num_householder is {n!a:.60}; accepted: a whole number of at least 1")
    if k.shape[1] % n:
        raise ValueError(f"k has {k.shape[1]} rows; accepted: a multiple of num_householder={n}")
    first, second, third = (x.unflatten(1, (-1, n)) if x.shape[1] else torch.unsqueeze(x, 2) for x in (k, v, beta))
    return first, second, third
