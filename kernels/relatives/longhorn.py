"""Longhorn (arXiv 2407.14207) with one step size per head: the implicit update, which never overshoots."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..api import gated_delta_rule, with_options
from ..arguments.axes import check_axes
from ..arguments.precision import exact_dtype


@with_options
def longhorn(
    q: Tensor,  # [B, T, H, K]
    k: Tensor,  # [B, T, H, K]
    v: Tensor,  # [B, T, HV, V]
    beta: Tensor,  # [B, T, HV], at least 0
    *,
    op: Callable[..., Any] = gated_delta_rule,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """(I + beta k k^T) S_t = S_{t-1} + beta k v^T, o = scale * S^T q: the delta rule with beta / (1 + beta |k|^2).

    S_t minimises |S - S_{t-1}|^2 + beta |S^T k - v|^2. The paper's own layer has a beta per value channel and drops the
    off-diagonal of k k^T, which is an elementwise decay of K x V numbers: not in this family. Options as
    `gated_delta_rule`.
    """
    check_axes(q=(q, "B T H K"), k=(k, "B T H K"), v=(v, "B T HV V"), beta=(beta, "B T HV"))
    exact = exact_dtype(q.dtype)
    squares = k.to(exact).square().sum(-1).repeat_interleave(v.shape[2] // k.shape[2], 2)
    beta = beta.to(exact)
    return op(q=q, k=k, v=v, g=None, b=beta / (1 + beta * squares), w=None, **options)
