"""The op, and the table that its kernel launches by where there is one for the GPU."""

from functools import cache

import torch
import triton

from . import h100_sxm
from .kernel import gla_walk_kernel

TABLES = {"NVIDIA H100 80GB HBM3": h100_sxm}
"""By the name that a device gives itself; elsewhere Triton benchmarks, as ever."""


def gla_walk(q, k, v, g, scale=None):
    """Gated linear attention: q, k, g [B, T, H, K], v [B, T, H, V], g at most 0; o [B, T, H, V]. scale: K ** -0.5."""
    q, k, v, g = (x.contiguous() for x in (q, k, v, g))
    (B, T, H, K), V, o = q.shape, v.shape[-1], torch.empty_like(v)
    if q.is_cuda:
        use_table(torch.cuda.get_device_name(q.device))

    def grid(meta):
        return B * H, triton.cdiv(V, meta["BLOCK_V"])

    scale = K**-0.5 if scale is None else scale
    gla_walk_kernel[grid](q, k, v, g, o, scale, T, H, K, V, triton.next_power_of_2(K))
    return o


@cache
def use_table(device):
    """Take the configurations of this device's table, if there is one; how many."""
    return TABLES[device].install(gla_walk_kernel) if device in TABLES else 0
