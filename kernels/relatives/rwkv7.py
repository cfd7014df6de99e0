"""RWKV-7 (arXiv 2503.14456): a diagonal decay less a rank-one erase of the undecayed state, in two steps of the rule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..api import gated_delta_rule, with_options
from ..arguments.axes import check_axes
from ..arguments.checks import check_boundaries
from ..arguments.contents import any_is
from ..arguments.precision import exact_dtype
from .substeps import first_of, interleave, last_of, spread

STRONGEST = -10.0
"""Smallest log decay: RWKV-7's own w is exp(-exp(-0.5) sigmoid(.)), so never below -0.61."""


@with_options
def rwkv7(
    r: Tensor,  # [B, T, H, K]
    w: Tensor,  # [B, T, H, K], log decay
    k: Tensor,  # [B, T, H, K]
    v: Tensor,  # [B, T, H, V]
    kk: Tensor,  # [B, T, H, K], unit length
    a: Tensor,  # [B, T, H, K], in (0, 1)
    *,
    cu_seqlens: Tensor | None = None,
    cu_seqlens_cpu: Tensor | None = None,
    op: Callable[..., Any] = gated_delta_rule,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """S <- (Diag(exp w) - (a * kk) kk^T) S + k v^T, o = scale * S^T r (scale: 1 in RWKV-7, K ** -0.5 if left out).

    Not one step of the rule, whose erase writes along k. In two: decay and erase with the key a * kk and the erase gate
    exp(-w) / a, whose product reads the undecayed state at kk; then write, with no decay and no erase.
    The division makes the gradient of a lose a factor 1 / a of its precision; an a below the roundoff counts as the
    roundoff. Options as `gated_delta_rule`. Raises ValueError, where values are checked, for a log decay below -10.
    """
    keys = {name: (x, "B T H K") for name, x in (("r", r), ("w", w), ("k", k), ("kk", kk), ("a", a))}
    check_axes(**keys, v=(v, "B T H V"))
    check_boundaries(cu_seqlens, cu_seqlens_cpu, r.shape[0], r.device)
    if any_is("w", w, lambda w: w < STRONGEST, options.get("check_values")):
        raise ValueError(f"w is a log decay and holds {w.min().item():.3g}; accepted: at least {STRONGEST:g}")
    exact = exact_dtype(r.dtype)
    # The products of fp16 would underflow where a is small.
    wide = torch.float32 if r.dtype == torch.float16 else r.dtype
    smallest = torch.finfo(exact).eps
    strength = a.to(exact)
    strength = strength + (strength.detach().clamp(min=smallest) - strength.detach())
    decay = w.to(exact)
    erased = (strength * kk.to(exact)).to(wide)
    values, keys = v.to(wide), k.to(wide)
    o, state = op(
        q=last_of(r.to(wide), 2),
        k=interleave(erased, keys),
        v=last_of(values, 2),
        g=first_of(decay, 2),
        b=first_of(torch.exp(-decay) / strength, 2),
        w=interleave(torch.zeros_like(decay[..., 0]), torch.ones_like(decay[..., 0])),
        **spread(cu_seqlens, cu_seqlens_cpu, 2),
        **options,
    )
    return o[:, 1::2].to(v.dtype), state
