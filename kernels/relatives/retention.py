"""RetNet's retention (arXiv 2307.08621): linear attention that forgets at one fixed rate per head."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..api import gated_delta_rule, with_options
from ..arguments.axes import check_axes
from ..arguments.precision import exact_dtype


@with_options
def retention(
    q: Tensor, k: Tensor, v: Tensor, *, op: Callable[..., Any] = gated_delta_rule, **options: Any
) -> tuple[Tensor, Tensor | None]:
    """S <- gamma_h S + k v^T, o = scale * S^T q, with gamma_h = 1 - 2^(-5-h) for value head h.

    q, k [B, T, H, K], already rotated if they are to be; v [B, T, HV, V]; options as `gated_delta_rule`.
    """
    check_axes(q=(q, "B T H K"), k=(k, "B T H K"), v=(v, "B T HV V"))
    exact = exact_dtype(q.dtype)
    heads = torch.arange(v.shape[2], dtype=exact, device=v.device)
    g = torch.log1p(-torch.exp2(-5 - heads)).expand(*v.shape[:3])
    return op(q=q, k=k, v=v, g=g, b=None, w=None, **options)
