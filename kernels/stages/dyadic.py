"""Device functions for the scores of a chunk under a decay per channel, by the dyadic split of `decay`, in factors.

The rows of a chunk are a tuple of 16 tensors [C / 16, BK], of which number j has the rows j, j + 16, ..: within 16 rows every
factor is then in the registers of the thread that needs it, which half of a segment a row is in is known to the compiler,
and no product is made that is masked afterwards. Queries, erase keys and keys carry their factors with them from level to
level, so that what is left after the last one is Qbar, Ebar and Kt.
"""

import triton
import triton.language as tl

from ..ties import NONE
from .decay import meets

ROWS = tl.constexpr(16)
"""Rows in a tuple."""


@triton.jit
def stack(rows):
    """16 tensors [S, BK] as one [16 * S, BK]: row 16 * s + j is row s of number j."""
    S: tl.constexpr = rows[0].shape[0]
    BK: tl.constexpr = rows[0].shape[1]
    two = ()
    for i in tl.static_range(8):
        two = two + (tl.join(rows[2 * i], rows[2 * i + 1]),)
    four = ()
    for i in tl.static_range(4):
        four = four + (tl.join(two[2 * i], two[2 * i + 1]),)
    eight = (tl.join(four[0], four[1]), tl.join(four[2], four[3]))
    return tl.reshape(tl.permute(tl.join(eight[0], eight[1]), (0, 5, 4, 3, 2, 1)), (S * 16, BK))


@triton.jit
def operand(rows, span: tl.constexpr, half: tl.constexpr, DTYPE: tl.constexpr):
    """The rows of one half of every segment of 2 * span, as a tile of a product; 0 in the other half, if it is another tensor."""
    found = ()
    for j in tl.static_range(16):
        if span >= 16 or j // span % 2 == half:
            found = found + (rows[j].to(DTYPE),)
        else:
            found = found + (tl.zeros_like(rows[j]).to(DTYPE),)
    return stack(found)


@triton.jit
def neighbours(totals, alike: tl.constexpr):
    """Totals [S, BK] of segments of `alike` rows of a tuple, as factors of the segment behind each, and of that before each.

    Of two neighbours, the later is given the total of the earlier in the first result, the earlier that of the later in the
    second; what is left is 1.
    """
    S: tl.constexpr = totals.shape[0]
    BK: tl.constexpr = totals.shape[1]
    pairs = tl.reshape(totals, (S // (2 * alike), 2, alike, BK))
    is_later = (tl.arange(0, 2) == 1)[None, :, None, None]
    earlier = tl.sum(tl.where(is_later, 0.0, pairs), 1, keep_dims=True)
    later = tl.sum(tl.where(is_later, pairs, 0.0), 1, keep_dims=True)
    return tl.reshape(tl.where(is_later, earlier, 1.0), (S, BK)), tl.reshape(tl.where(is_later, 1.0, later), (S, BK))


@triton.jit
def dyadic_scores(s_qk, s_kk, x, e, y, decay, row, LEVELS: tl.constexpr, ERASE: tl.constexpr, DTYPE: tl.constexpr):
    """(Aqk, T [C, C], Qbar, Ebar, Kt, the chunk's decay): s_qk and s_kk with what these channels add where rows meet.

    x, e, y, decay: queries, erase keys, keys and factors exp(g); tuples of 16, [C / 16, BK] fp32. Aqk is unscaled.
    """
    BK: tl.constexpr = decay[0].shape[1]
    S: tl.constexpr = decay[0].shape[0]
    key = tl.trans(operand(y, 16, 0, DTYPE))
    same = row[:, None] == row[None, :]
    s_qk += tl.where(same, tl.dot(operand(x, 16, 0, DTYPE), key, input_precision="ieee"), 0.0)
    decayed = ()
    for j in tl.static_range(16):
        decayed = decayed + (x[j] * decay[j],)
    x = decayed
    if ERASE != NONE:
        decayed = ()
        for j in tl.static_range(16):
            decayed = decayed + (e[j] * decay[j],)
        e = decayed
    totals = decay
    for level in tl.static_range(LEVELS):
        if level > 0:
            key = tl.trans(operand(y, 1 << level, 0, DTYPE))
        pair = meets(row, row, 1 << level)
        query = operand(x, 1 << level, 1, DTYPE)
        s_qk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
        if ERASE != NONE:
            query = operand(e, 1 << level, 1, DTYPE)
            s_kk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
        x_next = ()
        e_next = ()
        y_next = ()
        if level < 4:
            for j in tl.static_range(16):
                if (j >> level) % 2 == 1:
                    before = totals[(j >> level) - 1]
                    x_next = x_next + (x[j] * before,)
                    if ERASE != NONE:
                        e_next = e_next + (e[j] * before,)
                    y_next = y_next + (y[j],)
                else:
                    x_next = x_next + (x[j],)
                    if ERASE != NONE:
                        e_next = e_next + (e[j],)
                    y_next = y_next + (y[j] * totals[(j >> level) + 1],)
            merged = ()
            for i in tl.static_range(8 >> level):
                merged = merged + (totals[2 * i] * totals[2 * i + 1],)
            totals = merged
        else:
            before, behind = neighbours(totals[0], 1 << (level - 4))
            for j in tl.static_range(16):
                x_next = x_next + (x[j] * before,)
                if ERASE != NONE:
                    e_next = e_next + (e[j] * before,)
                y_next = y_next + (y[j] * behind,)
            totals = (totals[0] * before * behind,)
        x = x_next
        e = e_next
        y = y_next
    return s_qk, s_kk, x, e, y, totals[0]
