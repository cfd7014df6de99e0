"""A package of somebody else: linear attention in one Triton kernel, with no stages to look into, right and wrong."""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

from deltaproof.kernels import Kernel
from deltaproof.kernels.configs.launch_config import LaunchConfig


@triton.jit
def toy_attention_kernel(q, k, v, o, T, scale, K: tl.constexpr, V: tl.constexpr, KP: tl.constexpr, VP: tl.constexpr,
                         LAST: tl.constexpr, FORGET: tl.constexpr):  # fmt: skip
    # One program: one head of one sequence. LAST: columns that are computed. FORGET: the state is lost that often.
    head, heads = tl.program_id(1), tl.num_programs(1)
    channel, column = tl.arange(0, KP), tl.arange(0, VP)
    inside, outside = channel < K, column < V
    state = tl.zeros([KP, VP], tl.float32)
    for t in range(T):
        at = (tl.program_id(0) * T + t) * heads + head
        x = tl.load(q + at * K + channel, mask=inside, other=0.0)
        y = tl.load(k + at * K + channel, mask=inside, other=0.0)
        z = tl.load(v + at * V + column, mask=outside, other=0.0)
        if t % FORGET == 0:
            state = tl.zeros([KP, VP], tl.float32)
        state += y[:, None] * z[None, :]
        out = tl.where(column < LAST, tl.sum(x[:, None] * state, 0) * scale, 0.0)
        tl.store(o + at * V + column, out, mask=outside)


def toy(*, last: int = 1 << 10, forget: int = 1 << 20) -> Kernel:
    """A forward pass for equal heads, no gates and no states; wrong beyond column `last`, or from token `forget` on."""

    def run(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, *, scale: float | None, **_: Any) -> Any:
        B, T, H, K = q.shape
        V, o = v.shape[-1], torch.empty_like(v)
        sizes: dict[str, Any] = {"K": K, "V": V, "LAST": last, "FORGET": forget}
        sizes |= {f"{name}P": max(16, triton.next_power_of_2(sizes[name])) for name in "KV"}
        scaling = K**-0.5 if scale is None else scale
        toy_attention_kernel[(B, H)](
            q=q.contiguous(), k=k.contiguous(), v=v.contiguous(), o=o, T=T, scale=scaling, **sizes
        )
        return o, None

    return Kernel(
        name="toy/attention",
        op="recurrent",
        variant="attention",
        differentiable=False,
        needs_triton=True,
        run=run,
        accepts=lambda problem: problem.lengths is None and problem.H == problem.HV and not problem.final_state,
        configs=lambda problem: (LaunchConfig(),),
    )
