"""Comba (arXiv 2506.02475): a delta rule that reads at p = d k, and in its kernels reads before the state decays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..api import gated_delta_rule, with_options
from ..arguments.axes import check_axes, check_flags
from ..arguments.contents import any_is
from ..arguments.precision import exact_dtype


@with_options
def comba(
    q: Tensor,  # [B, T, H, K]
    k: Tensor,  # [B, T, H, K]
    v: Tensor,  # [B, T, HV, V]
    g: Tensor,  # [B, T, HV]
    beta: Tensor,  # [B, T, HV]
    d: Tensor,  # [HV], or [B, T, HV]
    *,
    erase_before_decay: bool = True,
    op: Callable[..., Any] = gated_delta_rule,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """S <- exp(g) S + beta k (v - d X^T k)^T with X the state before the decay, or after it; o = scale * S^T q.

    The rule reads after the decay, so reading before it is an erase gate of beta d / exp(g): write gate beta. In fp32 that
    needs decays of at least -60 per token, which is checked where values are; d [HV] scales the key that is read.
    Comba's output correction, q - D p for q, is the caller's. Options as `gated_delta_rule`.
    """
    scalars = {"g": (g, "B T HV"), "beta": (beta, "B T HV"), "d": (d, "HV or B T HV")}
    check_axes(q=(q, "B T H K"), k=(k, "B T H K"), v=(v, "B T HV V"), **scalars)
    check_flags(erase_before_decay=erase_before_decay)
    exact = exact_dtype(q.dtype)
    erase = beta.to(exact) * d.to(exact)
    if erase_before_decay:
        if any_is("g", g, lambda g: g < -60, options.get("check_values")):
            raise ValueError(f"g holds {g.min().item():.3g}; with erase_before_decay=True, accepted: at least -60")
        erase = erase * torch.exp(-g.to(exact))
    return op(q=q, k=k, v=v, g=g, b=erase, w=beta, **options)
