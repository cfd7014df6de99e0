"""Device functions on the rows of a chunk as a tuple of 16 tensors [C / 16, BK], of which number j has the rows j, j + 16, ..

Within 16 rows, all that a row needs of another is then in the registers of one thread, and which row it is, the compiler knows.
"""

import triton
import triton.language as tl

from ...arguments.ties import CHANNEL
from .decay import softplus


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
def store_sixteen(found, x, start, rows, head, channel, C: tl.constexpr, H: tl.constexpr, K: tl.constexpr):
    """A tuple of 16 as the rows of a chunk of x [tokens, H, K]: the inverse of `load_sixteen`."""
    part = tl.arange(0, C // 16)[:, None] * 16
    at = x + (start * H + head) * K + part * (H * K) + channel[None, :]
    for j in tl.static_range(16):
        inside = tl.broadcast_to((part + j < rows) & (channel[None, :] < K), at.shape)
        tl.store(at + j * H * K, tl.broadcast_to(found[j], at.shape).to(x.dtype.element_ty), mask=inside)


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
def exponentials(rows):
    """exp of a tuple of 16."""
    found = ()
    for j in tl.static_range(16):
        found = found + (tl.exp(rows[j]),)
    return found


@triton.jit
def negated(rows):
    """A tuple of 16."""
    found = ()
    for j in tl.static_range(16):
        found = found + (-rows[j],)
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
def added(rows, others):
    """Two tuples of 16, element by element."""
    found = ()
    for j in tl.static_range(16):
        found = found + (rows[j] + others[j],)
    return found


@triton.jit
def add_all(rows):
    """The sum of a tuple of 16."""
    total = rows[0]
    for j in tl.static_range(1, 16):
        total += rows[j]
    return total


@triton.jit
def other_blocks(totals, blocks: tl.constexpr, LATER: tl.constexpr):
    """Sums of the later (or earlier) rows in the same segment of `blocks` rows, of totals [S, BK]."""
    S: tl.constexpr = totals.shape[0]
    here = tl.arange(0, S)[:, None]
    there = tl.arange(0, S)[None, :]
    keep = (here // blocks == there // blocks) & (there > here if LATER else there < here)
    return tl.sum(tl.where(keep[:, :, None], totals[None, :, :], 0.0), 1)


@triton.jit
def decays_of_rows(rows, C: tl.constexpr):
    """Of log decays: the decay of a chunk up to each row and after each row, two tuples of 16, and of all of it [C / 16, BK]."""
    own = add_all(rows)
    earlier = other_blocks(own, C // 16, False)
    later = other_blocks(own, C // 16, True)
    up, down = tl.exp(earlier), tl.exp(later)
    factors = exponentials(rows)
    ups, downs = (), ()
    for j in tl.static_range(16):
        up *= factors[j]
        ups = ups + (up,)
        downs = (down,) + downs
        down *= factors[15 - j]
    return ups, downs, tl.exp(earlier + own + later)


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
def unstack(tile):
    """[16 * S, BK] as a tuple of 16 tensors [S, BK]: the inverse of `stack`."""
    S: tl.constexpr = tile.shape[0] // 16
    return parted(tl.permute(tl.reshape(tile, (S, 16, tile.shape[1])), (1, 0, 2)))


@triton.jit
def parted(rows):
    """[N, S, BK] as a tuple of N tensors [S, BK]."""
    N: tl.constexpr = rows.shape[0]
    S: tl.constexpr = rows.shape[1]
    BK: tl.constexpr = rows.shape[2]
    if N == 1:
        return (tl.reshape(rows, (S, BK)),)
    else:
        # Channels last, or the compiler would spread neighbouring rows over threads.
        even, odd = tl.split(tl.permute(tl.reshape(rows, (N // 2, 2, S, BK)), (0, 2, 3, 1)))
        evens, odds = parted(even), parted(odd)
        found = ()
        for i in tl.static_range(N // 2):
            found = found + (evens[i], odds[i])
        return found
