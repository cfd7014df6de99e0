"""Device functions for the inverse of a unit lower triangular matrix, by blocks that double, the first of them of 16 rows."""

import triton
import triton.language as tl

from .decay import meets


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
    """a + a joint a: the inverse of twice as long blocks, from that of the blocks and the negated part that joins them."""
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
