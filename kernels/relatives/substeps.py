"""Systems that take several steps of the rule per token: tensors [B, T, ...] laid out as [B, T * n, ...]."""

from __future__ import annotations

import torch
from torch import Tensor


def interleave(*steps: Tensor) -> Tensor:
    """n tensors [B, T, ...], one per step -> [B, T * n, ...]."""
    return torch.stack(steps, 2).flatten(1, 2)


def first_of(x: Tensor, n: int) -> Tensor:
    """x at the first of each token's n steps, zeros at the others."""
    return interleave(x, *[torch.zeros_like(x)] * (n - 1))


def last_of(x: Tensor, n: int) -> Tensor:
    """x at the last of each token's n steps, zeros at the others."""
    return interleave(*[torch.zeros_like(x)] * (n - 1), x)


def spread(cu_seqlens: Tensor | None, cu_seqlens_cpu: Tensor | None, n: int) -> dict[str, Tensor | None]:
    """Boundaries of the sequences, counted in steps, as arguments of the rule."""
    found = {"cu_seqlens": None if cu_seqlens is None else cu_seqlens * n}
    return found if cu_seqlens_cpu is None else found | {"cu_seqlens_cpu": cu_seqlens_cpu * n}
