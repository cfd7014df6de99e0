"""Stage 0, queries and keys: L2 normalisation over the head dimension, y = x / sqrt(sum x^2 + eps), and its backward."""

import torch
import triton
import triton.language as tl

from ...configs.launch_config import padded
from ...configs.launch_options import launch_options

EPS = 1e-6
"""Added under the root, as flash-linear-attention does; x / max(|x|, eps) differs for |x| below 1e-2."""


@triton.jit
def l2norm_kernel(x, y, rows, eps, K: tl.constexpr, BR: tl.constexpr, KP: tl.constexpr):
    # One program: BR rows of K entries.
    row = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)[:, None]
    channel = tl.arange(0, KP)[None, :]
    inside = (row < rows) & (channel < K)
    value = tl.load(x + row * K + channel, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 1)[:, None] + eps)
    tl.store(y + row * K + channel, (value * scale).to(y.dtype.element_ty), mask=inside)


@triton.jit
def l2norm_grad_kernel(x, dy, dx, rows, eps, K: tl.constexpr, BR: tl.constexpr, KP: tl.constexpr):
    # One program: BR rows of K entries. dx = (dy - y (y . dy)) / sqrt(sum x^2 + eps)
    row = tl.program_id(0).to(tl.int64) * BR + tl.arange(0, BR)[:, None]
    channel = tl.arange(0, KP)[None, :]
    inside = (row < rows) & (channel < K)
    value = tl.load(x + row * K + channel, mask=inside, other=0.0).to(tl.float32)
    grad = tl.load(dy + row * K + channel, mask=inside, other=0.0).to(tl.float32)
    scale = tl.rsqrt(tl.sum(value * value, 1)[:, None] + eps)
    unit = value * scale
    grad = (grad - unit * tl.sum(unit * grad, 1)[:, None]) * scale
    tl.store(dx + row * K + channel, grad.to(dx.dtype.element_ty), mask=inside)


def _launch(kernel, tensors: dict[str, torch.Tensor]) -> None:
    *outer, K = tensors["x"].shape
    rows = 1
    for size in outer:
        rows *= size
    block = 32
    kernel[(triton.cdiv(rows, block),)](**tensors, rows=rows, eps=EPS, K=K, BR=block, KP=padded(K), **launch_options(4))


def l2norm(x: torch.Tensor) -> torch.Tensor:
    """y like x [..., K]."""
    y = torch.empty_like(x)
    _launch(l2norm_kernel, {"x": x, "y": y})
    return y


def l2norm_grad(x: torch.Tensor, dy: torch.Tensor) -> torch.Tensor:
    """dx like x [..., K]."""
    dx = torch.empty_like(x)
    _launch(l2norm_grad_kernel, {"x": x, "dy": dy, "dx": dx})
    return dx
