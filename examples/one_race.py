"""A race that no interpreter sees: each program reads what its neighbour writes.

verify launch examples/one_race.py:call       finds it, with no GPU
verify launch examples/one_race.py:corrected  finds nothing
"""

import torch
import triton
import triton.language as tl


@triton.jit
def smooth_kernel(x, y, n, BLOCK: tl.constexpr):
    # One program: BLOCK elements of y, each the mean of two neighbours in x.
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    left = tl.load(x + at, mask=at < n)
    right = tl.load(x + at + 1, mask=at + 1 < n, other=0.0)
    tl.store(y + at, (left + right) / 2, mask=at < n)


def call() -> None:
    """In place: the last element that a program reads is the first that the next one writes."""
    x = torch.randn(1000)
    smooth_kernel[(4,)](x, x, 1000, BLOCK=256)


def corrected() -> torch.Tensor:
    x = torch.randn(1000)
    y = torch.empty_like(x)
    smooth_kernel[(4,)](x, y, 1000, BLOCK=256)
    return y
