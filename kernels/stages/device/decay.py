"""Device functions for decays: loading gates, and the dyadic split of a chunk.

Rows i > j of a chunk meet exactly once among the levels h = 1, 2, 4, ..: in the block of 2h rows where i lies in the upper
half and j in the lower. There exp(G_i - G_j) = exp(sum of g from the middle to i) * exp(sum of g after j up to the middle),
a product of two factors that are at most 1, and two sums that `double` carries from level to level.
"""

import triton
import triton.language as tl

from ...arguments.ties import CHANNEL, NONE


@triton.jit
def load_decay(g, start, rows, head, row, channel, G: tl.constexpr, K: tl.constexpr, DECAY: tl.constexpr):
    """Decay of each row [C, BK] or [C, 1], and of the row after it in the same chunk; 0 where there is none."""
    if DECAY == CHANNEL:
        at = g + ((start + row[:, None]) * G + head) * K + channel[None, :]
        inside = channel[None, :] < K
        here = tl.load(at, mask=(row[:, None] < rows) & inside, other=0.0)
        after = tl.load(at + G * K, mask=(row[:, None] + 1 < rows) & inside, other=0.0)
    else:
        at = g + (start + row[:, None]) * G + head
        here = tl.load(at, mask=row[:, None] < rows, other=0.0)
        after = tl.load(at + G, mask=row[:, None] + 1 < rows, other=0.0)
    return here.to(tl.float32), after.to(tl.float32)


@triton.jit
def sums(x, REVERSE: tl.constexpr):
    """Sums of x [C, channels] over the rows up to each; with REVERSE, from each on."""
    if x.shape[1] == 1:
        # As a vector: Triton 3.6 fails to compile the scan of a single column.
        return tl.cumsum(tl.sum(x, 1), 0, reverse=REVERSE)[:, None]
    else:
        return tl.cumsum(x, 0, reverse=REVERSE)


@triton.jit
def chunk_factors(g, start, rows, head, row, channel, G: tl.constexpr, K: tl.constexpr, DECAY: tl.constexpr):
    """Decay from the chunk's start to each row (that row's included), from after each row to the end, and of the whole."""
    C: tl.constexpr = row.shape[0]
    if DECAY == NONE:
        one = tl.full([C, 1], 1.0, tl.float32)
        return one, one, tl.full([1], 1.0, tl.float32)
    else:
        here, after = load_decay(g, start, rows, head, row, channel, G, K, DECAY)
        return tl.exp(sums(here, False)), tl.exp(sums(after, True)), tl.exp(tl.sum(here, 0))


@triton.jit
def double(prefix, suffix, row, span):
    """Sums over segments of 2 * span rows from those over segments of span rows.

    prefix: sum from the start of a row's segment to the row. suffix: sum of the rows after it in the segment.
    """
    half = row // span
    first = half // 2 * 2 * span
    lower = tl.gather(prefix, tl.broadcast_to((first + span - 1)[:, None], prefix.shape), 0)
    upper = tl.gather(prefix, tl.broadcast_to((first + 2 * span - 1)[:, None], prefix.shape), 0)
    in_upper = (half % 2 == 1)[:, None]
    return tl.where(in_upper, prefix + lower, prefix), tl.where(in_upper, suffix, suffix + upper)


@triton.jit
def meets(row, column, span):
    """Whether row and column meet at level `span`: row in the upper, column in the lower of two neighbouring segments."""
    upper = row[:, None] // span
    return (upper % 2 == 1) & (upper == column[None, :] // span + 1)


@triton.jit
def pair_decay(here, row):
    """exp(G_i - G_j) [C, C] for i >= j of a scalar decay [C, 1], as a sum over the rows after j up to i."""
    return tl.exp(tl.cumsum(tl.where(row[:, None] > row[None, :], here, 0.0), 0))
