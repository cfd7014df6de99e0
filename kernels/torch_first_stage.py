"""Stage 0 in plain torch, differentiable by autograd: what `stages.normalise` and `stages.activate` compute."""

import torch

from .stages.normalise import EPS


def l2norm(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(sum x^2 + eps) over the last dimension, in x's dtype, computed in at least fp32."""
    wide = x if x.dtype == torch.float64 else x.float()
    return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + EPS)).to(x.dtype)


def decay_gate(f: torch.Tensor, A_log: torch.Tensor, dt_bias: torch.Tensor) -> torch.Tensor:
    """-exp(A_log) softplus(f + dt_bias), at least fp32: f [B, T, G] or [B, T, G, K], A_log [G], dt_bias [G] or [G * K]."""
    wide = f if f.dtype == torch.float64 else f.float()
    rate = A_log.exp().view(-1, *[1] * (f.dim() - 3))
    raw = wide + dt_bias.view(f.shape[2:])
    # softplus, whose own gradient is NaN above 88 without its threshold, and inexact with it.
    return -rate * torch.logaddexp(raw, torch.zeros_like(raw))
