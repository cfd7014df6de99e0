"""Generators of one tensor each, from which the regimes are put together.

Each takes a `Draw` and returns float64 of shape `draw.shape` = (T, B, heads, channels), time first, so that a longer
problem of the same seed begins like a shorter one; states have shape (N, HV, K, V).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..problem import Problem

CHUNK = 64
"""Length on which the rows of spikes and resets repeat: the chunk size of most implementations."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """The arguments of a generator: a random stream of its own, the shape to fill, and the problem."""

    rng: np.random.Generator
    shape: tuple[int, ...]
    problem: Problem

    def pick(self, *options: float) -> float:
        """One of the options, in turn with the seed, so that consecutive seeds meet all of them."""
        return options[self.problem.seed % len(options)]

    def fork(self) -> Draw:
        """The same with another random stream: who draws twice forks, so that the first draw may be of any length."""
        return replace(self, rng=self.rng.spawn(1)[0])

    def legal(self, value: float, half: float) -> float:
        """`value`, or `half` where the dtype is fp16, whose range ends at 65504 and whose quantum is 6e-8."""
        return half if self.problem.dtype == "fp16" else value

    @property
    def position(self) -> np.ndarray:
        """Index of each token in its own sequence [T, 1, 1, 1]."""
        if self.problem.lengths is None:
            index = np.arange(self.problem.T)
        else:
            index = np.concatenate([np.arange(n) for n in self.problem.lengths])
        return index[:, None, None, None]

    @property
    def row(self) -> np.ndarray:
        """Whether a token is the one of its chunk that the seed names [T, 1, 1, 1]; seeds 0..63 name every row."""
        longest = max(length for _, _, length in self.problem.sequences)
        return self.position % CHUNK == self.problem.seed % max(1, min(CHUNK, longest))


Generator = Callable[[Draw], np.ndarray]


def normal(draw: Draw) -> np.ndarray:
    return draw.rng.standard_normal(draw.shape)


def uniform(low: float, high: float) -> Generator:
    return lambda draw: draw.rng.uniform(low, high, draw.shape)


def constant(value: float) -> Generator:
    return lambda draw: np.full(draw.shape, value)


def scaled(generator: Generator, value: float, half: float) -> Generator:
    """A generator times `value` (`half` for fp16)."""
    return lambda draw: generator(draw) * draw.legal(value, half)


def one_of(options: Sequence[Generator]) -> Generator:
    """One of several generators, in turn with the seed."""
    return lambda draw: options[draw.problem.seed % len(options)](draw)


def some(fraction: float, value: float, otherwise: Generator) -> Generator:
    """`value` in about `fraction` of the rows (one token, one head), the other generator elsewhere."""

    def generate(draw: Draw) -> np.ndarray:
        return np.where(_rows(draw) < fraction, value, otherwise(draw.fork()))

    return generate


def _rows(draw: Draw) -> np.ndarray:
    """One U(0, 1) per row."""
    return draw.rng.random((*draw.shape[:-1], 1))


def mask(value: float) -> Generator:
    """0 or `value`, evenly."""
    return lambda draw: value * (draw.rng.random(draw.shape) < 0.5)


# Keys and queries.


def normalise(x: np.ndarray) -> np.ndarray:
    """Unit vectors along the last axis; zero stays zero."""
    return x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)


def unit(draw: Draw) -> np.ndarray:
    return normalise(normal(draw))


def silu(draw: Draw) -> np.ndarray:
    """Unit vectors after SiLU, as a model's convolution leaves them: mostly in one orthant, so correlated."""
    x = normal(draw)
    return normalise(x / (1 + np.exp(-x)))


def collinear(spread: float) -> Generator:
    """Unit vectors around one direction per head, with cosines of about 1 - spread**2 among them."""

    def generate(draw: Draw) -> np.ndarray:
        centre = normalise(draw.rng.standard_normal(draw.shape[1:]))
        return normalise(centre + spread * unit(draw))

    return generate


def rank_two(draw: Draw) -> np.ndarray:
    """Unit vectors in one plane per head."""
    basis = draw.rng.standard_normal((*draw.shape[1:-1], 2, draw.shape[-1]))
    coordinates = draw.rng.standard_normal((*draw.shape[:-1], 2))
    return normalise(np.einsum("tbhi,bhik->tbhk", coordinates, basis))


GROWTH_TOKENS, GROWTH_PERIOD = 48, 128
"""The growth pair runs for the first 48 of every 128 tokens: long enough to grow 200-fold, short enough for fp16."""


def growing(draw: Draw) -> np.ndarray:
    """Whether the growth pair is at work [T, 1, 1, 1]."""
    return draw.position % GROWTH_PERIOD < GROWTH_TOKENS


def growth_keys(draw: Draw) -> np.ndarray:
    """Keys (sqrt 1/6, sqrt 5/6) and swapped, in turn: with complementary masks the state grows by sqrt(5)/2 a token."""
    x = unit(draw)
    if draw.shape[-1] < 2:
        return x
    pair = np.zeros((2, draw.shape[-1]))
    pair[0, :2] = np.sqrt([1 / 6, 5 / 6])
    pair[1, :2] = np.sqrt([5 / 6, 1 / 6])
    return np.where(growing(draw), pair[draw.position[:, 0, 0, 0] % 2][:, None, None, :], x)


def growth_erase(draw: Draw) -> np.ndarray:
    """The masks of `growth_keys`: each erases only at the smaller entry of its key."""
    x = uniform(0, 1)(draw)
    pair = np.zeros((2, draw.shape[-1]))
    pair[0, :1] = 1
    pair[1, 1:2] = 1
    return np.where(growing(draw), pair[draw.position[:, 0, 0, 0] % 2][:, None, None, :], x)


# Decay: values of g, at most 0.


def rates(low: float, high: float) -> Generator:
    """-rate * U(0, 2), with one log-uniform rate per head and channel: slow and fast channels side by side."""

    def generate(draw: Draw) -> np.ndarray:
        rate = np.exp(draw.rng.uniform(np.log(low), np.log(high), draw.shape[1:]))
        return -rate * draw.rng.uniform(0, 2, draw.shape)

    return generate


weak = rates(1e-3, 1e-1)


def gate_of_model(spread: float) -> Generator:
    """-A softplus(f + softplus^-1(dt)), A ~ U(1, 16) per head, dt ~ logU(1e-3, 0.1) per channel, f ~ N(0, spread^2)."""

    def generate(draw: Draw) -> np.ndarray:
        rate = draw.rng.uniform(1, 16, (*draw.shape[1:-1], 1))
        dt = np.exp(draw.rng.uniform(np.log(1e-3), np.log(0.1), draw.shape[1:]))
        return -rate * np.logaddexp(0, spread * normal(draw) + dt + np.log(-np.expm1(-dt)))

    return generate


def instant_forget(draw: Draw) -> np.ndarray:
    """A quarter of the channels (of the heads, for a scalar gate) at -16 throughout, at least one; the rest weak."""
    chosen = draw.rng.random(draw.shape[2:]) < 0.25
    chosen.flat[draw.problem.seed % chosen.size] = True
    return np.where(chosen, -16.0, weak(draw))


def at_row(strong: Generator) -> Generator:
    """Weak decay, but the strong generator at one row of every chunk, which the seed names."""
    return lambda draw: np.where(draw.row, strong(draw), weak(draw.fork()))


def reset_strength(draw: Draw) -> np.ndarray:
    """-1e3 to -1e8, by seed."""
    return np.full(draw.shape, -draw.pick(1e3, 1e4, 1e6, 1e8))


def strong_strength(draw: Draw) -> np.ndarray:
    return np.full(draw.shape, draw.pick(-5.0, -11.0, -12.0, -20.0, -100.0))


def near_one(draw: Draw) -> np.ndarray:
    return -draw.pick(1e-3, 1e-8) * draw.rng.uniform(0.5, 1, draw.shape)


def mixed_decay(draw: Draw) -> np.ndarray:
    """Rates from e^-6 to e per channel, a tenth of the rows without decay, one row in fifty a reset."""
    return some(0.02, -1e4, some(0.1, -0.0, rates(np.exp(-6), np.exp(1))))(draw)


def mixed_keys(draw: Draw) -> np.ndarray:
    """Independent, nearly collinear and zero keys in turn."""
    kind = _rows(draw)
    return np.where(kind < 0.6, unit(draw.fork()), np.where(kind < 0.9, collinear(0.1)(draw.fork()), 0.0))
