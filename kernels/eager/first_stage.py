"""Stage 0 in plain torch, differentiable by autograd: as `stages.prologue` does it on a GPU."""

from typing import Any

import torch

from ..arguments.precision import widen
from ..stages.prologue.normalise import EPS


def l2norm(x: torch.Tensor) -> torch.Tensor:
    """x / sqrt(sum x^2 + eps) over the last dimension, in x's dtype, computed in at least fp32."""
    wide = widen(x)
    return (wide * torch.rsqrt(wide.square().sum(-1, keepdim=True) + EPS)).to(x.dtype)


def decay_gate(f: torch.Tensor, A_log: torch.Tensor, dt_bias: torch.Tensor) -> torch.Tensor:
    """-exp(A_log) softplus(f + dt_bias), at least fp32: f [B, T, G] or [B, T, G, K], A_log [G], dt_bias [G] or [G * K]."""
    wide = widen(f)
    rate = A_log.exp().view(-1, *[1] * (f.dim() - 3))
    raw = wide + dt_bias.view(f.shape[2:])
    return -rate * _Softplus.apply(raw)


class _Softplus(torch.autograd.Function):
    """log(1 + exp x). torch's own has a gradient that is NaN above 88 without its threshold, and inexact with it."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: torch.Tensor) -> torch.Tensor:
        return torch.logaddexp(x, torch.zeros_like(x))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return gradient * torch.sigmoid(x)
