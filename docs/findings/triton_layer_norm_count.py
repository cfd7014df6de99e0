"""The first-store flag of Triton's layer norm tutorial (05): all warps read it, and one of them sets it, with no barrier between.

    verify launch docs/findings/triton_layer_norm_count.py:call         global-read-write
    verify launch docs/findings/triton_layer_norm_count.py:with_barrier nothing

A program takes a lock, reads a counter, and sets it if it is 0. The load is done by every warp, the exchange by one thread.
A warp that loads late reads the 1 that its own program has just set, takes the other branch, and adds what nobody stored.
"""

import torch
import triton
import triton.language as tl


@triton.jit
def sum_rows_kernel(x, total, lock, columns, BARRIER: tl.constexpr, BLOCK: tl.constexpr):
    # One program: one row of x, added to the sum of all under a lock. The flag is beside the lock.
    at = tl.arange(0, BLOCK)
    row = tl.load(x + tl.program_id(0) * columns + at, mask=at < columns, other=0.0)
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    stored = tl.load(lock + 1)
    if BARRIER:
        tl.debug_barrier()
    if stored == 0:
        tl.atomic_xchg(lock + 1, 1)
    else:
        row += tl.load(total + at, mask=at < columns)
    tl.store(total + at, row, mask=at < columns)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


def call(barrier: bool = False) -> torch.Tensor:
    x, total, lock = torch.randn(6, 100), torch.full((100,), torch.nan), torch.zeros(2, dtype=torch.int32)
    sum_rows_kernel[(6,)](x, total, lock, 100, BARRIER=barrier, BLOCK=128)
    return total


def with_barrier() -> torch.Tensor:
    return call(barrier=True)
