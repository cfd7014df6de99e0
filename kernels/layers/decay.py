"""How the decay gates of the family start: exp(g) = exp(-A softplus(f + dt_bias)), as in Mamba-2 (arXiv 2405.21060)."""

from __future__ import annotations

import math

import torch
from torch import nn

SHORTEST, LONGEST, FLOOR = 1e-3, 0.1, 1e-4
"""Range of softplus(dt_bias), which is drawn log-uniformly."""


def decay_parameter(size: int) -> nn.Parameter:
    """[size], in fp32 under any default dtype."""
    return nn.Parameter(torch.empty(size, dtype=torch.float32))


@torch.no_grad()
def reset_decay(A_log: nn.Parameter, dt_bias: nn.Parameter, *, smallest: float) -> None:
    """A uniform in (smallest, 16), and softplus(dt_bias) log-uniform in (0.001, 0.1).

    Both are marked `_no_weight_decay`, for optimisers that heed it.
    """
    for parameter in (A_log, dt_bias):
        parameter._no_weight_decay = True  # pyright: ignore[reportAttributeAccessIssue]
    # 0 itself may be drawn, and its logarithm would be -inf: a head that never decays and whose A has no gradient.
    A_log.uniform_(smallest, 16).clamp_(min=1e-4).log_()
    steps = dt_bias.uniform_(math.log(SHORTEST), math.log(LONGEST)).exp_().clamp_(min=FLOOR)
    dt_bias.copy_(steps + torch.log(-torch.expm1(-steps)))  # the inverse of softplus
