"""Device functions for the scores of a chunk under a decay per channel, by the dyadic split of `decay`, in factors.

The rows of a chunk are a tuple of 16 tensors [C / 16, BK], of which number j has the rows j, j + 16, ..: within 16 rows every
factor is then in the registers of the thread that needs it, which half of a segment a row is in is known to the compiler,
and no product is made that is masked afterwards. Queries, erase keys and keys carry their factors with them from level to
level, so that what is left after the last one is Qbar, Ebar and Kt.
"""

import triton
import triton.language as tl

from ...arguments.ties import NONE
from .decay import meets
from .rows import load_rows


@triton.jit
def norms_of_rows(x, start, rows, head, eps, H: tl.constexpr, K: tl.constexpr, C: tl.constexpr, BK: tl.constexpr):
    """1 / sqrt(sum x^2 + eps) of the rows of one head of x [tokens, H, K], as a tuple of 16, [C / 16, 1] each."""
    squares = ()
    for _ in tl.static_range(16):
        squares = squares + (tl.zeros([C // 16, BK], tl.float32),)
    for first in range(0, K, BK):
        added = ()
        for j in tl.static_range(16):
            value = load_rows(x, start, rows, head, tl.arange(0, C // 16) * 16 + j, first + tl.arange(0, BK), H, K)
            added = added + (squares[j] + value * value,)
        squares = added
    found = ()
    for j in tl.static_range(16):
        found = found + (tl.rsqrt(tl.sum(squares[j], 1, keep_dims=True) + eps),)
    return found


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
def within(rows):
    """A tile [16 * S, BK] as [S, 16, BK]."""
    return tl.reshape(rows, (rows.shape[0] // 16, 16, rows.shape[1]))


@triton.jit
def scaled(rows, factors):
    """Two tuples of 16, element by element."""
    found = ()
    for j in tl.static_range(16):
        found = found + (rows[j] * factors[j],)
    return found


@triton.jit
def blocks_to_tile(blocks):
    """[S, 16, 16] as the diagonal of [16 * S, 16 * S], 0 elsewhere."""
    S: tl.constexpr = blocks.shape[0]
    block = tl.arange(0, S)
    own = (block[:, None] == block[None, :])[:, None, :, None]
    return tl.reshape(tl.where(own, blocks[:, :, None, :], 0.0), (16 * S, 16 * S))


@triton.jit
def tile_to_blocks(tile):
    """The blocks of 16 on the diagonal of [16 * S, 16 * S], as [S, 16, 16]."""
    S: tl.constexpr = tile.shape[0] // 16
    block = tl.arange(0, S)
    own = (block[:, None] == block[None, :])[:, None, :, None]
    return tl.sum(tl.where(own, tl.reshape(tile, (S, 16, S, 16)), 0.0), 2)


@triton.jit
def dyadic_scores(near_qk, near_kk, far_qk, far_kk, x, e, y, decay, row,
                  LEVELS: tl.constexpr, ERASE: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """Scores with what these channels add where rows meet, and the decayed rows: Qbar, Ebar, Kt, and the chunk's decay.

    near: of rows that are in the same 16, [C / 16, 16, 16]; far: of the others [C, C]. Unscaled.
    x, e, y, decay: queries, erase keys, keys and factors exp(g); tuples of 16, [C / 16, BK] fp32.
    """
    place = tl.arange(0, 16)
    key = tl.permute(within(stack(y).to(DTYPE)), (0, 2, 1))
    same = (place[:, None] == place[None, :])[None, :, :]
    near_qk += tl.where(same, tl.dot(within(stack(x).to(DTYPE)), key, input_precision="ieee"), 0.0)
    x = scaled(x, decay)
    if ERASE != NONE:
        e = scaled(e, decay)
    totals = decay
    for level in tl.static_range(4):
        if level > 0:
            key = tl.permute(within(stack(y).to(DTYPE)), (0, 2, 1))
        pair = meets(place, place, 1 << level)[None, :, :]
        query = within(stack(x).to(DTYPE))
        near_qk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
        if ERASE != NONE:
            query = within(stack(e).to(DTYPE))
            near_kk += tl.where(pair, tl.dot(query, key, input_precision="ieee"), 0.0)
        x_next, e_next, y_next = (), (), ()
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
        x, e, y = x_next, e_next, y_next
        merged = ()
        for i in tl.static_range(8 >> level):
            merged = merged + (totals[2 * i] * totals[2 * i + 1],)
        totals = merged
    whole = totals[0]
    for level in tl.static_range(4, LEVELS):
        key = tl.trans(stack(y).to(DTYPE))
        pair = meets(row, row, 1 << level)
        far_qk += tl.where(pair, tl.dot(stack(x).to(DTYPE), key, input_precision="ieee"), 0.0)
        before, behind = neighbours(whole, 1 << (level - 4))
        x_next, e_next, y_next = (), (), ()
        if ERASE != NONE:
            far_kk += tl.where(pair, tl.dot(stack(e).to(DTYPE), key, input_precision="ieee"), 0.0)
        for j in tl.static_range(16):
            x_next = x_next + (x[j] * before,)
            if ERASE != NONE:
                e_next = e_next + (e[j] * before,)
            y_next = y_next + (y[j] * behind,)
        x, e, y = x_next, e_next, y_next
        whole *= before * behind
    return near_qk, near_kk, far_qk, far_kk, x, e, y, whole


@triton.jit
def split(x, SOLVER: tl.constexpr):
    """x as a sum of two bf16 numbers, of 16 bits together; x and itself where the solver is not `bf16x3`."""
    if SOLVER == "bf16x3":
        high = x.to(tl.bfloat16)
        return high, (x - high.to(tl.float32)).to(tl.bfloat16)
    else:
        return x, x


@triton.jit
def product(a, a_rest, b, b_rest, SOLVER: tl.constexpr):
    """The product of two sums of `split`, without that of the rests."""
    if SOLVER == "bf16x3":
        return tl.dot(a, b, tl.dot(a, b_rest, tl.dot(a_rest, b)))
    else:
        return tl.dot(a, b, input_precision=SOLVER)


@triton.jit
def joined(a, joint, SOLVER: tl.constexpr):
    """a + a joint a: the inverse of twice as long blocks, from that of the blocks and what joins them, negated."""
    high, low = split(a, SOLVER)
    joint_high, joint_low = split(joint, SOLVER)
    through_high, through_low = split(product(high, low, joint_high, joint_low, SOLVER), SOLVER)
    return a + product(through_high, through_low, high, low, SOLVER)


@triton.jit
def blockwise_inverse(near, far, row, LEVELS: tl.constexpr, SOLVER: tl.constexpr):
    """(I + T)^-1 [C, C] of the strictly lower triangular -T that is `near` in the blocks of 16 of its diagonal, `far` below."""
    place = tl.arange(0, 16)
    unit = (place[:, None] == place[None, :])[None, :, :]
    a = tl.where(unit, 1.0, tl.where(meets(place, place, 1)[None, :, :], near, 0.0))
    for level in tl.static_range(1, 4):
        a = joined(a, tl.where(meets(place, place, 1 << level)[None, :, :], near, 0.0), SOLVER)
    a = blocks_to_tile(a)
    for level in tl.static_range(4, LEVELS):
        a = joined(a, tl.where(meets(row, row, 1 << level), far, 0.0), SOLVER)
    return a
