"""Device functions for the scores of a chunk under a decay per channel, by the dyadic split of `decay`, in factors.

The rows of a chunk are a tuple of 16 tensors [C / 16, BK], of which number j has the rows j, j + 16, ..: within 16 rows every
factor is then in the registers of the thread that needs it, which half of a segment a row is in is known to the compiler,
and no product is made that is masked afterwards. Queries, erase keys and keys carry their factors with them from level to
level, so that what is left after the last one is Qbar, Ebar and Kt.
"""

import triton
import triton.language as tl

from ...arguments.ties import CHANNEL, NONE
from ..prologue.activate import softplus
from .decay import meets


@triton.jit
def load_sixteen(x, start, rows, head, channel, C: tl.constexpr, H: tl.constexpr, K: tl.constexpr, TIE: tl.constexpr):
    """The rows of a chunk of x [tokens, H, K], or [tokens, H] where it is one number per head, as a tuple of 16; fp32."""
    BK: tl.constexpr = channel.shape[0]
    WIDTH: tl.constexpr = K if TIE == CHANNEL else 1  # pyright: ignore[reportAssignmentType]
    part = tl.arange(0, C // 16)[:, None] * 16
    # One address, and sixteen distances from it that the compiler knows.
    at = x + (start * H + head) * WIDTH + part * (H * WIDTH)
    if TIE == CHANNEL:
        at += channel[None, :]
    found = ()
    for j in tl.static_range(16):
        inside = part + j < rows
        if TIE == CHANNEL:
            if K // BK * BK != K:
                inside = inside & (channel[None, :] < K)
            inside = tl.broadcast_to(inside, at.shape)
        found = found + (tl.load(at + j * H * WIDTH, mask=inside, other=0.0).to(tl.float32),)
    return found


@triton.jit
def activated(values, A_log, dt_bias, rows, head, channel, C: tl.constexpr, K: tl.constexpr):
    """Log decays -exp(A_log) softplus(f + dt_bias) of raw values f, a tuple of 16; 0 where there is no row or channel."""
    part = tl.arange(0, C // 16)[:, None] * 16
    kept = channel < K
    rate = -tl.exp(tl.load(A_log + head).to(tl.float32))
    bias = tl.load(dt_bias + head * K + channel, mask=kept, other=0.0).to(tl.float32)[None, :]
    found = ()
    for j in tl.static_range(16):
        inside = (part + j < rows) & kept[None, :]
        found = found + (tl.where(inside, rate * softplus(values[j] + bias), 0.0),)
    return found


@triton.jit
def negated(rows):
    """A tuple of 16."""
    found = ()
    for j in tl.static_range(16):
        found = found + (-rows[j],)
    return found


@triton.jit
def exponentials(rows):
    """exp of a tuple of 16."""
    found = ()
    for j in tl.static_range(16):
        found = found + (tl.exp(rows[j]),)
    return found


@triton.jit
def norms_of_rows(x, start, rows, head, eps, H: tl.constexpr, K: tl.constexpr, C: tl.constexpr, BK: tl.constexpr):
    """1 / sqrt(sum x^2 + eps) of the rows of one head of x [tokens, H, K], as a tuple of 16, [C / 16, 1] each."""
    squares = ()
    for _ in tl.static_range(16):
        squares = squares + (tl.zeros([C // 16, BK], tl.float32),)
    for first in range(0, K, BK):
        values = load_sixteen(x, start, rows, head, first + tl.arange(0, BK), C, H, K, CHANNEL)
        added = ()
        for j in tl.static_range(16):
            added = added + (squares[j] + values[j] * values[j],)
        squares = added
    found = ()
    for j in tl.static_range(16):
        found = found + (tl.rsqrt(tl.sum(squares[j], 1, keep_dims=True) + eps),)
    return found


@triton.jit
def stack(rows):
    """A tuple of 8 or 16 tensors [S, BK] as one: row len(rows) * s + j is row s of number j."""
    S: tl.constexpr = rows[0].shape[0]
    BK: tl.constexpr = rows[0].shape[1]
    N: tl.constexpr = len(rows)  # pyright: ignore[reportAssignmentType]
    pairs = ()
    for i in tl.static_range(N // 2):
        pairs = pairs + (tl.join(rows[2 * i], rows[2 * i + 1]),)
    fours = ()
    for i in tl.static_range(N // 4):
        fours = fours + (tl.join(pairs[2 * i], pairs[2 * i + 1]),)
    if N == 8:
        return tl.reshape(tl.permute(tl.join(fours[0], fours[1]), (0, 4, 3, 2, 1)), (S * 8, BK))
    else:
        eights = (tl.join(fours[0], fours[1]), tl.join(fours[2], fours[3]))
        return tl.reshape(tl.permute(tl.join(eights[0], eights[1]), (0, 5, 4, 3, 2, 1)), (S * 16, BK))


@triton.jit
def halves(rows, level: tl.constexpr):
    """Of 16 rows, the 8 in lower and the 8 in upper halves of segments of 2 << level rows."""
    lower, upper = (), ()
    for j in tl.static_range(16):
        if (j >> level) % 2 == 1:
            upper = upper + (rows[j],)
        else:
            lower = lower + (rows[j],)
    return lower, upper


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
def multiplied(rows, factor):
    """A tuple of 16, each by the same factor."""
    found = ()
    for j in tl.static_range(16):
        found = found + (rows[j] * factor,)
    return found


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
def dyadic_scores(diagonal, near, far_qk, far_kk, q, e, k, decay, row,
                  LEVELS: tl.constexpr, ERASE: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """Scores with what these channels add where rows meet, and the decayed rows: Qbar, Ebar, Kt, and the chunk's decay.

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
    """Scores [C / 16, 16, 16] of queries, and of erase keys, of what `dyadic_scores` leaves of rows in the same 16."""
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
