"""One call on packed tensors: what every variant is given."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..configs.launch_config import LaunchConfig
from .layout import Layout


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Packed, contiguous tensors of one call.

    q, k [tokens, H, K]; v [tokens, HV, V]; g [tokens, G(, K)], b [tokens, B(, K)], w [tokens, HV(, V)] or None;
    h0 [N, HV, K, V] fp32 or None; cu_seqlens [N + 1] int64.
    layout: of chunks of `config.chunk_size` tokens, if the caller has it. length: tokens per sequence, if all are equally
    long. Without either, the layout is computed from cu_seqlens.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor | None
    b: torch.Tensor | None
    w: torch.Tensor | None
    h0: torch.Tensor | None
    cu_seqlens: torch.Tensor
    scale: float
    config: LaunchConfig
    layout: Layout | None = None
    length: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """Gradients of a `Call`'s tensors, each like its tensor; None for what the call does not have."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor | None
    b: torch.Tensor | None
    w: torch.Tensor | None
    h0: torch.Tensor | None
