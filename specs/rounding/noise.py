"""The rounding of an implementation, simulated: float64 with random noise at the sites of a precision contract."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arithmetic.numbers import Float64, Site
from .contract import EXACT, FORGETS_ALL, PrecisionContract, Rounding

_POOL = 2**21
"""Random numbers drawn in advance."""

_RUNNING_SUM = 16
"""An fp32 sum of n products is rounded about n / 8 times on the way, at half its size (in the mean square) on average:
that is n / 16 roundings beside those of the products."""


class Noisy(Float64):
    """float64 with uniform noise of a contract's size at its sites, on independent copies along a leading axis."""

    def __init__(self, contract: PrecisionContract, replicas: int, rng: np.random.Generator) -> None:
        self.contract = contract
        self._replicas = replicas
        self._rng = rng
        # Fresh numbers at every site would cost more than the rule itself; a random window of a pool does as well.
        self._pool = rng.uniform(-1, 1, _POOL)
        self._scaled: dict[Rounding, tuple[np.ndarray, np.ndarray]] = {}

    def array(self, values: Any) -> np.ndarray:
        values = np.asarray(values, dtype=np.float64)
        return np.broadcast_to(values, (self._replicas, *values.shape))

    def at(self, site: Site, x: np.ndarray) -> np.ndarray:
        rounding = self.contract.at(site)
        if rounding == EXACT:
            return x
        # One draw for all tokens [..., T, heads, channels]: a sum of log-decays is off in proportion to the sum itself.
        shape = (*x.shape[:-3], 1, *x.shape[-2:]) if site == "exponent" else x.shape
        relative, lost = self._pools(rounding)
        moved = x * self._window(relative, shape)
        moved += self._window(lost, shape)
        if rounding.apart:
            moved += rounding.unit * self._sums(x) * self._window(self._pool, x.shape)
        return moved

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        # A sum of many independent errors: only its size matters, not its law.
        rounding = self.contract.product
        moved = np.sqrt((a * a) @ (b * b))
        moved *= rounding.unit * np.sqrt(1 + a.shape[-1] / _RUNNING_SUM)
        moved *= self._window(self._pool, moved.shape)
        moved += self._window(self._pools(rounding)[1], moved.shape)
        moved += a @ b
        return moved

    def uniform(self, shape: tuple[int, ...]) -> np.ndarray:
        """Noise between -1 and 1."""
        return self._window(self._pool, shape)

    def _pools(self, rounding: Rounding) -> tuple[np.ndarray, np.ndarray]:
        """Factors by which a rounding moves a number, and the errors of rounding to a multiple of the quantum."""
        if rounding not in self._scaled:
            self._scaled[rounding] = 1 + rounding.unit * self._pool, rounding.quantum / 2 * self._pool
        return self._scaled[rounding]

    def _window(self, pool: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """Entries of a pool from a random place on, repeated where the shape is larger than the pool."""
        size = math.prod(shape)
        start = int(self._rng.integers(max(len(pool) - size, len(pool) // 2)))
        window = pool[start : start + size]
        return window.reshape(shape) if len(window) == size else np.resize(window, shape)

    def _sums(self, g: np.ndarray) -> np.ndarray:
        """Running sums of log-decays [..., T, heads, channels] from the beginning of their chunk, without their sign."""
        total = np.minimum(np.abs(g), FORGETS_ALL).cumsum(axis=-3)
        chunk = self.contract.chunk or 1
        before = np.arange(g.shape[-3]) // chunk * chunk - 1
        return total - np.where(before[:, None, None] >= 0, total[..., before, :, :], 0.0)
