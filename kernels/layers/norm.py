"""The norm of a head's output, with its gate."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..arguments.precision import widen
from .config import GateActivation

_ACTIVATIONS = {"silu": F.silu, "sigmoid": torch.sigmoid}


class GatedRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight * activation(gate), over the last dimension.

    Computed in fp32 (fp64 for fp64) for any dtype of x, and rounded to it once.
    """

    def __init__(self, channels: int, *, activation: GateActivation, eps: float):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.activation = activation
        self.eps = eps

    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        """x and gate [..., channels]; no gate where the activation is "none"."""
        y = F.rms_norm(widen(x), self.weight.shape, widen(self.weight), self.eps)
        if gate is not None:
            y = y * _ACTIVATIONS[self.activation](widen(gate))
        return y.to(x.dtype)
