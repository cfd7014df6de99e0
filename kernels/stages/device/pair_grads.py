"""Device functions for the gradients of the scores between the rows of a chunk, under a decay per channel.

At a level of the dyadic split (`dyadic`) an upper row i meets a lower row j with the factors up_i and down_j. Its gradient of q_i
is up_i times a product of score gradients and decayed keys, of k_j down_j times one of score gradients and decayed queries and
erase keys. A decay g_t gets the contribution of every pair of a source before row t and a sink at t or later.
"""

import triton
import triton.language as tl

from ...arguments.ties import NONE
from .decay import meets
from .dyadic import merged, neighbours, to_end, to_start
from .sixteen import add_all, added, halves, multiplied, other_blocks, parted, scaled, stack, unstack


@triton.jit
def row_in(half: tl.constexpr, place, level: tl.constexpr):
    """Of the 8 rows of 16 in lower (0) or upper (1) halves of segments of 2 << level rows, the row at a place."""
    LENGTH: tl.constexpr = 1 << level  # pyright: ignore[reportOperatorIssue]
    return place // LENGTH * (2 * LENGTH) + half * LENGTH + place % LENGTH


@triton.jit
def load_near(daqk, dt, start, rows, head, C: tl.constexpr, HV: tl.constexpr, level: tl.constexpr, EVERY: tl.constexpr,
              ERASE: tl.constexpr):  # fmt: skip
    """Gradients of the scores of 8 upper rows as queries, then as erase keys, with keys in the same 16 [C / 16, 16, N].

    Keys: the 8 lower rows, or with EVERY all 16, 0 where they are not met.
    """
    S: tl.constexpr = C // 16
    N: tl.constexpr = 16 if EVERY else 8  # pyright: ignore[reportAssignmentType]
    sink = tl.arange(0, 16)[None, :, None]
    place = tl.arange(0, N)[None, None, :]
    upper = row_in(1, sink % 8, level)
    column = place if EVERY else row_in(0, place, level)
    own = upper // (1 << level) == column // (1 << level) + 1
    first = tl.arange(0, S)[:, None, None] * 16
    inside = own & (first + upper < rows)
    at = (start * HV + head) * C + ((first + upper) * (HV * C) + first + column)
    weights = tl.load(daqk + at, mask=inside & (sink < 8), other=0.0)
    if ERASE != NONE:
        weights += tl.load(dt + at, mask=inside & (sink >= 8), other=0.0)
    return weights


@triton.jit
def crossing(grads, sinks, sources, blocks: tl.constexpr):
    """grads plus, for each row t, the sinks at t or later and the sources before t in its segment of `blocks` times 16 rows.

    Tuples of 16, [S, BK] each.
    """
    if blocks > 1:
        after = other_blocks(add_all(sinks), blocks, True)
        before = other_blocks(add_all(sources), blocks, False)
    else:
        after = tl.zeros_like(sinks[0])
        before = tl.zeros_like(sinks[0])
    from_before = ()
    for j in tl.static_range(16):
        from_before = from_before + (grads[j] + before,)
        before += sources[j]
    found = ()
    for i in tl.static_range(16):
        after += sinks[15 - i]
        found = (from_before[15 - i] + after,) + found
    return found


@triton.jit
def crossing_near(grads, moved, level: tl.constexpr):
    """`crossing` within halves of segments of 2 << level rows: `moved` are sinks in upper halves, sources in lower ones."""
    run = tl.zeros_like(moved[0])
    lower = ()
    for j in tl.static_range(16):
        if (j >> level) % 2 == 0:
            if j % (1 << level) > 0:
                run += moved[j - 1]
            else:
                run = tl.zeros_like(run)
            lower = lower + (grads[j] + run,)
        else:
            lower = lower + (grads[j],)
    found = ()
    for i in tl.static_range(16):
        if ((15 - i) >> level) % 2 == 1:
            if (16 - i) % (1 << level) > 0:
                run += moved[15 - i]
            else:
                run = moved[15 - i]
            found = (lower[15 - i] + run,) + found
        else:
            found = (lower[15 - i],) + found
    return found


@triton.jit
def near_grads(q_grad, e_grad, k_grad, decay_grad, q, e, k, up, down, weights_of_keys, weights_of_sinks,
               level: tl.constexpr, ERASE: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """The four gradients, plus the contributions of pairs of rows in the same 16 at a level. Tuples of 16, [S, BK] fp32."""
    S: tl.constexpr = q[0].shape[0]
    BK: tl.constexpr = q[0].shape[1]
    key = tl.permute(tl.reshape(stack(scaled(k, down)).to(DTYPE), (S, 16, BK)), (0, 2, 1))
    of_sinks = tl.dot(key, tl.permute(weights_of_sinks, (0, 2, 1)), input_precision="ieee")
    of_sinks = parted(tl.permute(of_sinks, (2, 0, 1)))
    _, sinks = halves(scaled(q, up), level)
    if ERASE != NONE:
        _, erasers = halves(scaled(e, up), level)
        sinks = sinks + erasers
    else:
        sinks = sinks + sinks
    sink = tl.permute(tl.reshape(stack(sinks).to(DTYPE), (S, 16, BK)), (0, 2, 1))
    of_keys = parted(tl.permute(tl.dot(sink, weights_of_keys, input_precision="ieee"), (2, 0, 1)))
    q_next, e_next, k_next, moved = (), (), (), ()
    for j in tl.static_range(16):
        if (j >> level) % 2 == 1:
            grad = up[j] * of_sinks[(j >> (level + 1) << level) + j % (1 << level)]
            given = q[j] * grad
            q_next = q_next + (q_grad[j] + grad,)
            k_next = k_next + (k_grad[j],)
            if ERASE != NONE:
                grad = up[j] * of_sinks[8 + (j >> (level + 1) << level) + j % (1 << level)]
                given += e[j] * grad
                e_next = e_next + (e_grad[j] + grad,)
        else:
            grad = down[j] * of_keys[(j >> (level + 1) << level) + j % (1 << level)]
            given = k[j] * grad
            q_next = q_next + (q_grad[j],)
            k_next = k_next + (k_grad[j] + grad,)
            if ERASE != NONE:
                e_next = e_next + (e_grad[j],)
        moved = moved + (given,)
    return q_next, e_next, k_next, crossing_near(decay_grad, moved, level)


@triton.jit
def far_grads(q_grad, e_grad, k_grad, decay_grad, q, e, k, up, down, a_grad, t_grad,
              level: tl.constexpr, ERASE: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """The same of rows in different 16s, from the gradients of all scores that meet at this level [C, C], 0 elsewhere."""
    key = stack(scaled(k, down)).to(DTYPE)
    query = stack(scaled(q, up)).to(DTYPE)
    q_added = scaled(up, unstack(tl.dot(a_grad, key, input_precision="ieee")))
    of_keys = tl.dot(tl.trans(a_grad), query, input_precision="ieee")
    sinks = scaled(q, q_added)
    if ERASE != NONE:
        erase = stack(scaled(e, up)).to(DTYPE)
        e_added = scaled(up, unstack(tl.dot(t_grad, key, input_precision="ieee")))
        of_keys = tl.dot(tl.trans(t_grad), erase, of_keys, input_precision="ieee")
        sinks = added(sinks, scaled(e, e_added))
        e_grad = added(e_grad, e_added)
    k_added = scaled(down, unstack(of_keys))
    decay_grad = crossing(decay_grad, sinks, scaled(k, k_added), 1 << (level - 4))
    return added(q_grad, q_added), e_grad, added(k_grad, k_added), decay_grad


@triton.jit
def pair_grads(q, e, k, decay, daqk, dt, start, rows, head, C: tl.constexpr, HV: tl.constexpr,
               LEVELS: tl.constexpr, ERASE: tl.constexpr, DTYPE: tl.constexpr):  # fmt: skip
    """Gradients of queries, erase keys, keys and decays from those of a chunk's scores, and the factors that lead to its ends.

    q, e, k, decay: queries, erase keys, keys and factors exp(g); tuples of 16, [C / 16, BK] fp32, as are the results: the four
    gradients, the decay from the chunk's start to each row, that row's included, and from after it to the end. Last, the
    chunk's decay [C / 16, BK].
    """
    part = tl.arange(0, C // 16)[:, None] * 16
    at = daqk + (start * HV + head) * C + part * (HV * C + 1)
    q_grad, e_grad, k_grad, decay_grad, down = (), (), (), (), ()
    for j in tl.static_range(16):
        own = tl.load(at + j * (HV * C + 1), mask=part + j < rows, other=0.0).to(tl.float32)
        q_grad = q_grad + (own * k[j],)
        e_grad = e_grad + (tl.zeros_like(k[j]),)
        k_grad = k_grad + (own * q[j],)
        decay_grad = decay_grad + (tl.zeros_like(k[j]),)
        down = down + (tl.full(k[j].shape, 1.0, tl.float32),)
    up = decay
    totals = decay
    for level in tl.static_range(4):
        weights_of_keys = load_near(daqk, dt, start, rows, head, C, HV, level, False, ERASE)
        weights_of_sinks = load_near(daqk, dt, start, rows, head, C, HV, level, True, ERASE)
        q_grad, e_grad, k_grad, decay_grad = near_grads(
            q_grad,
            e_grad,
            k_grad,
            decay_grad,
            q,
            e,
            k,
            up,
            down,
            weights_of_keys,
            weights_of_sinks,
            level,
            ERASE,
            DTYPE,
        )
        up = to_start(up, totals, level)
        down = to_end(down, totals, level)
        totals = merged(totals, level)
    whole = totals[0]
    row = tl.arange(0, C)
    at = (start * HV + head) * C + (row[:, None] * (HV * C) + row[None, :])
    for level in tl.static_range(4, LEVELS):
        pair = meets(row, row, 1 << level) & (row[:, None] < rows)
        a_grad = tl.load(daqk + at, mask=pair, other=0.0)
        t_grad = a_grad
        if ERASE != NONE:
            t_grad = tl.load(dt + at, mask=pair, other=0.0)
        q_grad, e_grad, k_grad, decay_grad = far_grads(
            q_grad, e_grad, k_grad, decay_grad, q, e, k, up, down, a_grad, t_grad, level, ERASE, DTYPE
        )
        before, behind = neighbours(whole, 1 << (level - 4))
        up = multiplied(up, before)
        down = multiplied(down, behind)
        whole *= before * behind
    return q_grad, e_grad, k_grad, decay_grad, up, down, whole
