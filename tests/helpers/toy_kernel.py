"""A small Triton kernel with its launcher, as somebody else would write it: linear attention, one program per head."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl


@triton.jit
def linear_kernel(q, k, v, h0, o, ht, T, K, V, scale, H: tl.constexpr, BK: tl.constexpr, BV: tl.constexpr):
    i_bh = tl.program_id(0)
    i_b, i_h = i_bh // H, i_bh % H
    channel, column = tl.arange(0, BK), tl.arange(0, BV)
    whole = (channel[:, None] < K) & (column[None, :] < V)
    at = i_bh * K * V + channel[:, None] * V + column[None, :]
    state = tl.load(h0 + at, mask=whole, other=0.0)
    for t in range(T):
        row = (i_b * T + t) * H + i_h
        key = tl.load(k + row * K + channel, mask=channel < K, other=0.0).to(tl.float32)
        value = tl.load(v + row * V + column, mask=column < V, other=0.0).to(tl.float32)
        state += key[:, None] * value[None, :]
        query = tl.load(q + row * K + channel, mask=channel < K, other=0.0).to(tl.float32)
        read = tl.sum(query[:, None] * state, axis=0) * scale
        tl.store(o + row * V + column, read.to(o.dtype.element_ty), mask=column < V)
    tl.store(ht + at, state, mask=whole)


def linear(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, initial_state: torch.Tensor | None = None,
    output_final_state: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
    """Linear attention, forward only."""
    B, T, H, K = q.shape
    V = v.shape[-1]
    h0 = q.new_zeros((B, H, K, V), dtype=torch.float32) if initial_state is None else initial_state
    q, k, v, h0 = (x.contiguous() for x in (q, k, v, h0))
    o, ht = torch.empty_like(v), torch.empty_like(h0)
    sizes: Any = {"H": H, "BK": triton.next_power_of_2(K), "BV": triton.next_power_of_2(V)}
    linear_kernel[(B * H,)](q, k, v, h0, o, ht, T, K, V, K**-0.5, **sizes)
    return o, ht if output_final_state else None
