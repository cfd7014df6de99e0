"""The kernel: a program walks over the tokens of one head with a block of the state's columns in its registers."""

import triton
import triton.language as tl

CONFIGS = [triton.Config({"BLOCK_V": block}, num_warps=warps) for block in (16, 32) for warps in (1, 2, 4)]


@triton.autotune(CONFIGS, key=["K", "V"])
@triton.jit
def gla_walk_kernel(
    q, k, v, g, o, scale, T, H, K: tl.constexpr, V: tl.constexpr, BLOCK_K: tl.constexpr, BLOCK_V: tl.constexpr
):
    # Sequences times heads along x, the one axis that may be longer than 65,535.
    batch, head = (tl.program_id(0) // H).to(tl.int64), tl.program_id(0) % H
    i, j = tl.arange(0, BLOCK_K), tl.program_id(1) * BLOCK_V + tl.arange(0, BLOCK_V)
    state = tl.zeros([BLOCK_K, BLOCK_V], tl.float32)
    for t in range(T):
        row = (batch * T + t) * H + head
        decay = tl.exp(tl.load(g + row * K + i, i < K, 0).to(tl.float32))
        key = tl.load(k + row * K + i, i < K, 0).to(tl.float32)
        query = tl.load(q + row * K + i, i < K, 0).to(tl.float32)
        value = tl.load(v + row * V + j, j < V, 0).to(tl.float32)
        state = state * decay[:, None] + key[:, None] * value[None, :]
        read = tl.sum(state * query[:, None], 0) * scale
        tl.store(o + row * V + j, read.to(o.dtype.element_ty), j < V)
