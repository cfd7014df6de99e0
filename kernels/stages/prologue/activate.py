"""Stage 0, decays: g = -exp(A_log) * softplus(f + dt_bias) (the gate of Mamba-2, KDA and GDN-2), and its backward."""

import torch
import triton
import triton.language as tl

from ...configs.launch_options import launch_options
from ..chunkwise.fold import fold
from ..device.decay import softplus


@triton.jit
def activate_kernel(f, A_log, dt_bias, g, tokens, G: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, WP: tl.constexpr):
    # One program: BT tokens of one head, all its W gates.
    head = tl.program_id(1)
    token = tl.program_id(0).to(tl.int64) * BT + tl.arange(0, BT)[:, None]
    channel = tl.arange(0, WP)[None, :]
    inside = (token < tokens) & (channel < W)
    at = (token * G + head) * W + channel
    bias = tl.load(dt_bias + head * W + channel, mask=channel < W, other=0.0).to(tl.float32)
    value = tl.load(f + at, mask=inside, other=0.0).to(tl.float32) + bias
    rate = -tl.exp(tl.load(A_log + head).to(tl.float32))
    tl.store(g + at, rate * softplus(value), mask=inside)


@triton.jit
def activate_grad_kernel(f, A_log, dt_bias, dg, df, dA, dbias, tokens,
                         G: tl.constexpr, W: tl.constexpr, BT: tl.constexpr, WP: tl.constexpr):  # fmt: skip
    # One program: BT tokens of one head; its shares of dA_log [blocks, G] and ddt_bias [blocks, G, W].
    block = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    token = block * BT + tl.arange(0, BT)[:, None]
    channel = tl.arange(0, WP)[None, :]
    inside = (token < tokens) & (channel < W)
    at = (token * G + head) * W + channel
    bias = tl.load(dt_bias + head * W + channel, mask=channel < W, other=0.0).to(tl.float32)
    value = tl.load(f + at, mask=inside, other=0.0).to(tl.float32) + bias
    rate = -tl.exp(tl.load(A_log + head).to(tl.float32))
    grad = tl.load(dg + at, mask=inside, other=0.0)
    # sigmoid(x) = exp(x - softplus(x)): no overflow on either side.
    inner = grad * rate * tl.exp(value - softplus(value))
    tl.store(df + at, inner.to(df.dtype.element_ty), mask=inside)
    tl.store(dA + block * G + head, tl.sum(tl.where(inside, grad * rate * softplus(value), 0.0)))
    shares = tl.sum(tl.where(inside, inner, 0.0), 0)
    tl.store(dbias + (block * G + head) * W + tl.arange(0, WP), shares, mask=tl.arange(0, WP) < W)


BLOCK = 64


def _sizes(f: torch.Tensor) -> dict[str, int]:
    width = f.shape[2] if f.dim() == 3 else 1
    return {"tokens": f.shape[0], "G": f.shape[1], "W": width, "BT": BLOCK, "WP": triton.next_power_of_2(width)}


def activate(f: torch.Tensor, A_log: torch.Tensor, dt_bias: torch.Tensor) -> torch.Tensor:
    """g fp32 of the shape of f: [tokens, G] with dt_bias [G], or [tokens, G, K] with dt_bias [G * K]; A_log [G]."""
    g = torch.empty_like(f, dtype=torch.float32)
    grid = (triton.cdiv(f.shape[0], BLOCK), f.shape[1])
    activate_kernel[grid](f=f, A_log=A_log, dt_bias=dt_bias, g=g, **launch_options(4), **_sizes(f))
    return g


def activate_grad(
    f: torch.Tensor, A_log: torch.Tensor, dt_bias: torch.Tensor, dg: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(df, dA_log, ddt_bias), each like its tensor, from dg fp32 of the shape of f."""
    blocks = triton.cdiv(f.shape[0], BLOCK)
    df = torch.empty_like(f)
    dA = dg.new_empty(blocks, *A_log.shape)
    dbias = dg.new_empty(blocks, *dt_bias.shape)
    activate_grad_kernel[(blocks, f.shape[1])](
        f=f, A_log=A_log, dt_bias=dt_bias, dg=dg, df=df, dA=dA, dbias=dbias, **launch_options(4), **_sizes(f)
    )
    return df, fold(dA, A_log), fold(dbias, dt_bias)
