"""One kernel of a larger op, judged alone against a reference of its own.

verify all --target examples.one_stage:running_sums --profile quick
"""

import torch
import triton
import triton.language as tl

from deltaproof.verify.targets.stage import Stage


@triton.jit
def running_sums_kernel(g, total, T, H, CHUNK: tl.constexpr):
    # One program: a chunk of one head.
    t = tl.program_id(0) * CHUNK + tl.arange(0, CHUNK)
    at = (tl.program_id(1) // H * T + t) * H + tl.program_id(1) % H
    tl.store(total + at, tl.cumsum(tl.load(g + at, mask=t < T, other=0.0), 0), mask=t < T)


def in_triton(g, chunk):
    """The sums of log decays g [B, T, H] from the beginning of each chunk."""
    B, T, H = g.shape
    total = torch.empty_like(g)
    running_sums_kernel[(triton.cdiv(T, chunk), B * H)](g, total, T, H, chunk)
    return total


def in_torch(g, chunk):
    return torch.cat([part.cumsum(1) for part in g.split(chunk, 1)], 1)


def draw(random):
    B, T, H = random.integers(1, 4), random.integers(1, 100), random.integers(1, 4)
    return {"g": -torch.from_numpy(random.random((B, T, H), dtype="float32")), "chunk": int(random.choice([16, 32]))}


running_sums = Stage(run=in_triton, reference=in_torch, draw=draw)
