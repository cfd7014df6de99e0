"""Device functions for decays and for the dyadic split of a chunk.

Rows i > j of a chunk meet exactly once among the levels h = 1, 2, 4, ..: in the block of 2h rows where i lies in the upper
half and j in the lower. There exp(G_i - G_j) = exp(sum of g from the middle to i) * exp(sum of g after j up to the middle),
a product of two factors that are at most 1.
"""

import triton
import triton.language as tl


@triton.jit
def softplus(x):
    """log(1 + exp(x)) to full relative accuracy on both sides."""
    small = tl.exp(-tl.abs(x))
    one = 1.0 + small
    # log(1 + y) = y log(1 + y) / ((1 + y) - 1) undoes the rounding of 1 + y; where that is 1, log(1 + y) = y.
    tail = tl.where(one == 1.0, small, tl.log(one) * small / tl.where(one == 1.0, 1.0, one - 1.0))
    return tl.maximum(x, 0.0) + tail


@triton.jit
def sums(x, REVERSE: tl.constexpr):
    """Sums of x [C, channels] over the rows up to each; with REVERSE, from each on."""
    if x.shape[1] == 1:
        # As a vector: Triton 3.6 fails to compile the scan of a single column.
        return tl.cumsum(tl.sum(x, 1), 0, reverse=REVERSE)[:, None]
    else:
        return tl.cumsum(x, 0, reverse=REVERSE)


@triton.jit
def meets(row, column, span):
    """Whether row and column meet at level `span`: row in the upper, column in the lower of two neighbouring segments."""
    upper = row[:, None] // span
    return (upper % 2 == 1) & (upper == column[None, :] // span + 1)


@triton.jit
def pair_decay(here, row):
    """exp(G_i - G_j) [C, C] for i >= j of a scalar decay [C, 1], as a sum over the rows after j up to i."""
    return tl.exp(tl.cumsum(tl.where(row[:, None] > row[None, :], here, 0.0), 0))
