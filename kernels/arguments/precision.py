"""The precision of states and gates, which may be higher than that of the data."""

from __future__ import annotations

import torch
from torch import Tensor


def exact_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of states, and of the arithmetic of gates, for data of a dtype: fp64 for fp64, else fp32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def widen(x: Tensor) -> Tensor:
    """Widen to at least fp32."""
    return x.to(exact_dtype(x.dtype))
