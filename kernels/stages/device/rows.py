"""Device functions that read the rows of a chunk as the caller has them: normalised, and with decays activated, on the way in.

A kernel that reads its inputs through these needs no first stage, and no copy of q, k and g goes through memory. The first
row of a chunk is a 64-bit offset of the pointer; within the chunk offsets are 32 bits wide, which halves the registers
that addresses take.
"""

import triton
import triton.language as tl

from ...arguments.ties import CHANNEL, NONE, SCALAR
from .decay import softplus


@triton.jit
def load_rows(x, start, rows, head, row, channel, H: tl.constexpr, K: tl.constexpr):
    """Rows of one head of x [tokens, H, K], as fp32 [C, BK]; 0 outside."""
    at = x + (start * H + head) * K + (row[:, None] * (H * K) + channel[None, :])
    return tl.load(at, mask=(row[:, None] < rows) & (channel[None, :] < K), other=0.0).to(tl.float32)


@triton.jit
def load_scalars(x, start, rows, head, row, H: tl.constexpr):
    """Rows of one head of x [tokens, H], as fp32 [C, 1]; 0 outside."""
    return tl.load(x + (start * H + head) + row[:, None] * H, mask=row[:, None] < rows, other=0.0).to(tl.float32)


@triton.jit
def load_gate(x, start, rows, head, row, channel, H: tl.constexpr, K: tl.constexpr, TIE: tl.constexpr):
    """A gate, one number per channel [C, BK] or per head [C, 1]."""
    if TIE == CHANNEL:
        return load_rows(x, start, rows, head, row, channel, H, K)
    else:
        return load_scalars(x, start, rows, head, row, H)


@triton.jit
def reciprocal_norms(x, start, rows, head, row, eps, H: tl.constexpr, K: tl.constexpr, KP: tl.constexpr,
                     BK: tl.constexpr):  # fmt: skip
    """1 / sqrt(sum x^2 + eps) of each row [C]."""
    C: tl.constexpr = row.shape[0]
    total = tl.zeros([C], tl.float32)
    for first in range(0, KP, BK):
        value = load_rows(x, start, rows, head, row, first + tl.arange(0, BK), H, K)
        total += tl.sum(value * value, 1)
    return tl.rsqrt(total + eps)


@triton.jit
def load_decay(g, A_log, dt_bias, start, rows, head, row, channel, ahead: tl.constexpr,
                  G: tl.constexpr, K: tl.constexpr, DECAY: tl.constexpr, RAW: tl.constexpr):  # fmt: skip
    """Log decay of the rows that come `ahead` after these, in the same chunk [C, BK] or [C, 1]; 0 where there is none.

    With RAW, g holds raw values f, and the decay is -exp(A_log) softplus(f + dt_bias).
    """
    C: tl.constexpr = row.shape[0]
    if DECAY == NONE:
        return tl.zeros([C, 1], tl.float32)
    else:
        value = load_gate(g, start, rows, head, row + ahead, channel, G, K, DECAY)
        if RAW:
            rate = -tl.exp(tl.load(A_log + head).to(tl.float32))
            inside = row[:, None] + ahead < rows
            if DECAY == CHANNEL:
                kept = channel < K
                bias = tl.load(dt_bias + head * K + channel, mask=kept, other=0.0).to(tl.float32)[None, :]
                inside = inside & kept[None, :]
            else:
                bias = tl.load(dt_bias + head).to(tl.float32)
            value = tl.where(inside, rate * softplus(value + bias), 0.0)
        return value


@triton.jit
def load_writes(v, w, b, start, rows, head, row, column, HV: tl.constexpr, B: tl.constexpr, V: tl.constexpr,
                ERASE: tl.constexpr, WRITE: tl.constexpr):  # fmt: skip
    """v [C, BV], and its write gate [C, BV] or [C, 1]; w is b, or 1, where it is tied."""
    value = load_rows(v, start, rows, head, row, column, HV, V)
    if WRITE != NONE:
        return value, load_gate(w, start, rows, head, row, column, HV, V, WRITE)
    elif ERASE == SCALAR:
        return value, load_scalars(b, start, rows, head // (HV // B), row, B)
    else:
        return value, tl.full([row.shape[0], 1], 1.0, tl.float32)
