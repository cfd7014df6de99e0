"""Decay factors within a chunk, and the gradient of the gates through them, without a single cancellation.

Every exponent is a sum of terms of one sign (all g <= 0), never a difference of two cumulative sums, so every factor is
at most 1 and exact for any g, -inf included. The gradient of g_t is the sum over everything that decays across token t.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..arithmetic.numbers import FLOAT64, Array, Float64, Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Decay:
    """Factors of one chunk of C tokens, per channel.

    prefix [..., C, K]: from the chunk's start through token i. suffix [..., C, K]: after token j to the chunk's end.
    between [..., C, C, K]: after token j through token i, 1 on the diagonal, 0 above it. total [..., K]: the chunk.
    """

    prefix: Array
    suffix: Array
    between: Array
    total: Array


def decays(g: Array, numbers: Numbers = FLOAT64) -> Decay:
    """The factors of a chunk with log-decays g [..., C, K]."""
    C = g.shape[-2]
    if not isinstance(numbers, Float64):
        return _products(g, numbers)
    exponent = np.full((*g.shape[:-2], C, C, g.shape[-1]), -np.inf)
    for i in range(C):
        exponent[..., i, i, :] = 0
        if i:
            exponent[..., i, :i, :] = exponent[..., i - 1, :i, :] + g[..., i, None, :]
    prefix = np.cumsum(g, axis=-2)
    return Decay(
        prefix=np.exp(prefix),
        suffix=np.exp(exponent[..., C - 1, :, :]),
        between=np.exp(exponent),
        total=np.exp(prefix[..., -1, :]),
    )


def _products(g: Array, numbers: Numbers) -> Decay:
    """The same where exponentials multiply but their exponents do not add."""
    C, decay = g.shape[-2], numbers.exp(g)
    unit = decay[..., :1, :] * 0.0 + numbers.array(np.ones((1, 1)))
    prefix, between = [decay[..., :1, :]], [unit]
    for i in range(1, C):
        here = decay[..., i : i + 1, :]
        prefix.append(prefix[-1] * here)
        between.append(numbers.concatenate([between[-1] * here, unit], -2))
    rows = [
        row
        if i == C - 1
        else numbers.concatenate([row, numbers.zeros((*row.shape[:-2], C - 1 - i, row.shape[-1]))], -2)
        for i, row in enumerate(between)
    ]
    return Decay(
        prefix=numbers.concatenate(prefix, -2),
        suffix=between[-1],
        between=numbers.concatenate([row[..., None, :, :] for row in rows], -3),
        total=prefix[-1][..., 0, :],
    )


def gate_gradient(
    pairs: Array, from_past: Array, to_future: Array, through_state: Array, numbers: Numbers = FLOAT64
) -> Array:
    """dg [..., C, K] from the contributions of decayed terms, each a value times its gradient.

    pairs [..., C, C, K]: from token j to token i (i >= j), counts for j < t <= i.
    from_past [..., C, K]: from the chunk's start to token i, counts for t <= i.
    to_future [..., C, K]: from token j to the chunk's end, counts for t > j.
    through_state [..., K]: from the chunk's start to its end, counts for every t.
    """
    C = pairs.shape[-2]
    if not isinstance(numbers, Float64):
        crossing = [
            pairs[..., t:, :t, :].sum(axis=-2).sum(axis=-2)[..., None, :]
            + from_past[..., t:, :].sum(axis=-2)[..., None, :]
            + to_future[..., :t, :].sum(axis=-2)[..., None, :]
            for t in range(C)
        ]
        return numbers.concatenate(crossing, -2) + through_state[..., None, :]
    # from_before[i, t] = sum over j < t of pairs[i, j]
    from_before = np.zeros_like(pairs)
    np.cumsum(pairs[..., :-1, :], axis=-2, out=from_before[..., 1:, :])
    across = (from_before * np.tri(C)[:, :, None]).sum(axis=-3)
    dg = across + np.flip(np.cumsum(np.flip(from_past, -2), axis=-2), -2) + through_state[..., None, :]
    dg[..., 1:, :] += np.cumsum(to_future[..., :-1, :], axis=-2)
    return dg
