"""Device functions for the scores of a chunk under a decay per channel, by the dyadic split of `decay`, in factors.

The rows of a chunk are a tuple of 16 (`sixteen`): the compiler knows which half of a segment a row is in, and within 16 rows no
product is made that is masked afterwards. Queries, erase keys and keys carry their factors with them from level to level, so that
they are Qbar, Ebar and Kt after the last one.
"""

import triton
import triton.language as tl

from ...arguments.ties import NONE
from .decay import meets
from .sixteen import halves, multiplied, scaled, stack


@triton.jit
def in_block(products, level: tl.constexpr):
    """Products [S, 8, 8] of `halves`, upper rows by lower ones, where they lie in a block [S, 16, 16]; 0 elsewhere."""
    S: tl.constexpr = products.shape[0]
    SEGMENTS: tl.constexpr = 8 >> level  # pyright: ignore[reportOperatorIssue]
    LENGTH: tl.constexpr = 1 << level  # pyright: ignore[reportOperatorIssue]
    split = tl.reshape(products, (S, SEGMENTS, 1, LENGTH, SEGMENTS, 1, LENGTH))
    segment, half = tl.arange(0, SEGMENTS), tl.arange(0, 2)
    own = segment[:, None, None, None, None, None] == segment[None, None, None, :, None, None]
    placed = (half == 1)[None, :, None, None, None, None] & (half == 0)[None, None, None, None, :, None]
    return tl.reshape(tl.where((own & placed)[None, :, :, :, :, :, :], split, 0.0), (S, 16, 16))


@triton.jit
def neighbours(totals, alike: tl.constexpr):
    """Of totals [S, BK] of segments of `alike` rows of a tuple: the total before each, and the total behind each.

    Of two neighbours, the later one has the earlier before it, and the earlier one the later behind it; else 1.
    """
    S: tl.constexpr = totals.shape[0]
    BK: tl.constexpr = totals.shape[1]
    pairs = tl.reshape(totals, (S // (2 * alike), 2, alike, BK))
    is_later = (tl.arange(0, 2) == 1)[None, :, None, None]
    earlier = tl.sum(tl.where(is_later, 0.0, pairs), 1, keep_dims=True)
    later = tl.sum(tl.where(is_later, pairs, 0.0), 1, keep_dims=True)
    return tl.reshape(tl.where(is_later, earlier, 1.0), (S, BK)), tl.reshape(tl.where(is_later, 1.0, later), (S, BK))


@triton.jit
def to_start(rows, totals, level: tl.constexpr):
    """16 rows, the upper ones of segments of 2 << level rows multiplied by the total of the lower half before them."""
    found = ()
    for j in tl.static_range(16):
        if (j >> level) % 2 == 1:
            found = found + (rows[j] * totals[(j >> level) - 1],)
        else:
            found = found + (rows[j],)
    return found


@triton.jit
def to_end(rows, totals, level: tl.constexpr):
    """16 rows, the lower ones of segments of 2 << level rows multiplied by the total of the upper half behind them."""
    found = ()
    for j in tl.static_range(16):
        if (j >> level) % 2 == 1:
            found = found + (rows[j],)
        else:
            found = found + (rows[j] * totals[(j >> level) + 1],)
    return found


@triton.jit
def merged(totals, level: tl.constexpr):
    """Totals of segments of 2 << level rows, from those of half."""
    found = ()
    for i in tl.static_range(8 >> level):  # pyright: ignore[reportOperatorIssue]
        found = found + (totals[2 * i] * totals[2 * i + 1],)
    return found


@triton.jit
def dyadic_scores(diagonal, near, far_qk, far_kk, q, e, k, decay, row,
                  LEVELS: tl.constexpr, ERASE: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """Scores plus the contributions of these channels where rows meet, the decayed rows Qbar, Ebar, Kt, and the chunk's decay.

    diagonal: its diagonal is that of the scores of queries [C / 16, 16, 16]. near: of rows that meet in the same 16, a tuple of
    one tensor a level, 8 rows of queries and 8 of erase keys by 8 of keys [C / 16, 16, 8]; far: of the others [C, C]. Unscaled.
    q, e, k, decay: queries, erase keys, keys and factors exp(g); tuples of 16, [C / 16, BK] fp32.
    """
    S: tl.constexpr = q[0].shape[0]
    BK: tl.constexpr = q[0].shape[1]
    key = tl.permute(tl.reshape(stack(k).to(DTYPE), (S, 16, BK)), (0, 2, 1))
    diagonal = tl.dot(tl.reshape(stack(q).to(DTYPE), (S, 16, BK)), key, diagonal, input_precision="ieee")
    q = scaled(q, decay)
    if ERASE != NONE:
        e = scaled(e, decay)
    totals = decay
    products = ()
    for level in tl.static_range(4):
        keys, _ = halves(k, level)
        _, queries = halves(q, level)
        if ERASE != NONE:
            _, erasers = halves(e, level)
            queries = queries + erasers
        else:
            queries = queries + queries
        key = tl.permute(tl.reshape(stack(keys).to(DTYPE), (S, 8, BK)), (0, 2, 1))
        query = tl.reshape(stack(queries).to(DTYPE), (S, 16, BK))
        products = products + (tl.dot(query, key, near[level], input_precision="ieee"),)
        q = to_start(q, totals, level)
        if ERASE != NONE:
            e = to_start(e, totals, level)
        k = to_end(k, totals, level)
        totals = merged(totals, level)
    whole = totals[0]
    for level in tl.static_range(4, LEVELS):
        key = tl.trans(stack(k).to(DTYPE))
        pair = meets(row, row, 1 << level)
        far_qk += tl.where(pair, tl.dot(stack(q).to(DTYPE), key, input_precision="ieee"), 0.0)
        before, behind = neighbours(whole, 1 << (level - 4))
        if ERASE != NONE:
            far_kk += tl.where(pair, tl.dot(stack(e).to(DTYPE), key, input_precision="ieee"), 0.0)
            e = multiplied(e, before)
        q = multiplied(q, before)
        k = multiplied(k, behind)
        whole *= before * behind
    return diagonal, products, far_qk, far_kk, q, e, k, whole


@triton.jit
def near_scores(diagonal, near):
    """Scores [C / 16, 16, 16] of queries, and of erase keys, from the results of `dyadic_scores` for rows in the same 16."""
    S: tl.constexpr = diagonal.shape[0]
    place = tl.arange(0, 16)
    qk = tl.where((place[:, None] == place[None, :])[None, :, :], diagonal, 0.0)
    kk = tl.zeros([S, 16, 16], tl.float32)
    for level in tl.static_range(4):
        both = tl.permute(tl.reshape(near[level], (S, 2, 8, 8)), (0, 2, 3, 1))
        of_queries, of_erasers = tl.split(both)
        qk += in_block(of_queries, level)
        kk += in_block(of_erasers, level)
    return qk, kk
