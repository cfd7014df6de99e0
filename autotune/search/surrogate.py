"""A Gaussian process over the points of a space, and the point of which it expects most.

Its kernel is a Matern of order 5/2 with one length per parameter (Rasmussen and Williams, Gaussian Processes for Machine
Learning, equations 2.25, 2.26, 4.17 and 5.8); the point is that of the greatest expected improvement (Jones, Schonlau and Welch
1998, equation 15).
"""

from __future__ import annotations

import math

import numpy as np

LENGTHS = (0.15, 0.3, 0.6, 1.2, 2.5, 5.0, 12.0)
"""Of which each parameter gets the likeliest, where its values lie evenly between 0 and 1."""
NOISES = (1e-3, 1e-4, 1e-2, 5e-2)
"""Variance of the noise, against that of the values."""
PRIOR = 0.25
"""Log likelihood that a length loses by the square of its own logarithm."""
GROWTH = 1.4
"""The lengths are chosen anew whenever so many times as many values are known as the last time."""
MARGIN = 0.01
"""By how much, in standard deviations of the values, a point is to be better than the best."""


class Surrogate:
    """places [points, parameters]: where each point lies, from 0 to 1 along every parameter.

    A value costs one product of the values so far with all points; lengths are chosen seldom, since that costs as much as many
    values. Equal values in equal order give equal proposals.
    """

    def __init__(self, places: np.ndarray) -> None:
        self._places = places.astype(np.float32)
        self._points: list[int] = []
        self._milliseconds: list[float] = []
        self._fitted = 0
        self._scaled, self._noise = self._places.T, NOISES[0]
        self._factor = np.zeros((0, 0))
        self._rows = np.zeros((0, len(places)), np.float32)
        self._unknown = np.ones(len(places), np.float32)

    def __len__(self) -> int:
        return len(self._points)

    def tell(self, point: int, milliseconds: float) -> None:
        """A time; inf for a failure."""
        self._points.append(point)
        self._milliseconds.append(milliseconds)

    @property
    def informed(self) -> bool:
        """Whether any point ran."""
        return any(time < math.inf for time in self._milliseconds)

    def propose(self, taken: np.ndarray) -> int:
        """The point of the greatest expected improvement, out of those that are not taken; some point must have run.

        taken [points]: bool.
        """
        values = self._values()
        if len(self) >= GROWTH * self._fitted:
            self._fit(values)
        self._extend()
        weights = np.linalg.solve(self._factor, values)
        scale = math.sqrt(max(weights @ weights / len(self), 1e-6))
        mean = weights.astype(np.float32) @ self._rows[: len(self)]
        deviation = scale * np.sqrt(np.maximum(self._unknown, 1e-6))
        better = (values.min() - MARGIN - mean) / deviation
        expected = deviation * (better * _normal(better) + np.exp(-better * better / 2) / math.sqrt(2 * math.pi))
        return int(np.where(taken, -1.0, expected).argmax())

    def _values(self) -> np.ndarray:
        """Logarithms of the times, of mean 0 and deviation 1.

        A failure is as slow as the slowest that ran. The slow half is cut off as far above the median as the best is below it,
        since how slow a slow point is says little of the fast ones.
        """
        times = np.array(self._milliseconds)
        logs = np.log(np.where(np.isfinite(times), times, times[np.isfinite(times)].max()))
        middle = np.median(logs)
        logs = np.minimum(logs, 2 * middle - logs.min() + 1e-9)
        return (logs - logs.mean()) / (logs.std() + 1e-9)

    def _fit(self, values: np.ndarray) -> None:
        """Choose lengths and noise anew, one after the other, each the likeliest; and forget the results of the old ones."""
        places = self._places[self._points].astype(np.float64)
        squares = (places[:, None] - places[None]).transpose(2, 0, 1) ** 2
        lengths, noise = np.ones(len(squares)), NOISES[0]
        best = _likelihood(squares, values, lengths, noise)
        for parameter in range(len(squares)):
            for length in LENGTHS:
                other = lengths.copy()
                other[parameter] = length
                if (found := _likelihood(squares, values, other, noise)) > best:
                    best, lengths = found, other
        noise = max(NOISES, key=lambda one: _likelihood(squares, values, lengths, one))
        self._scaled = np.ascontiguousarray((self._places / lengths.astype(np.float32)).T)
        self._noise, self._fitted = noise, len(values)
        self._factor, self._unknown = np.zeros((0, 0)), np.ones(len(self._places), np.float32)

    def _extend(self) -> None:
        """Bring the Cholesky factor of the values' covariance, and its solution for all points, up to the last value."""
        known, count = len(self._factor), len(self)
        if len(self._rows) < count:
            rows = np.zeros((2 * count, len(self._places)), np.float32)
            rows[:known] = self._rows[:known]
            self._rows = rows
        points = self._points[known:]
        before = self._rows[:known, points]
        squares = np.zeros((len(points), len(self._places)), np.float32)
        for axis in self._scaled:
            squares += (axis - axis[points, None]) ** 2
        near = _matern(squares)
        between = near[:, points] - before.T @ before + self._noise * np.eye(len(points), dtype=np.float32)
        last = np.linalg.cholesky(between.astype(np.float64))
        new = np.linalg.inv(last).astype(np.float32) @ (near - before.T @ self._rows[:known])
        self._rows[known:count] = new
        self._unknown -= (new * new).sum(0)
        self._factor = np.block([[self._factor, np.zeros((known, len(points)))], [before.T, last]])


def _likelihood(squares: np.ndarray, values: np.ndarray, lengths: np.ndarray, noise: float) -> float:
    """Logarithm of the marginal likelihood under the likeliest variance, and of a prior on the lengths, up to a constant."""
    covariance = _matern(np.tensordot(1 / lengths**2, squares, 1)) + noise * np.eye(len(values))
    factor = np.linalg.cholesky(covariance)
    weights = np.linalg.solve(factor, values)
    fit = -0.5 * len(values) * math.log(weights @ weights / len(values) + 1e-12)
    return fit - np.log(np.diag(factor)).sum() - PRIOR * float((np.log(lengths) ** 2).sum())


def _matern(squares: np.ndarray) -> np.ndarray:
    """Matern 5/2 of squared distances."""
    far = np.sqrt(5 * squares)
    return (1 + far + far * far / 3) * np.exp(-far)


def _normal(values: np.ndarray) -> np.ndarray:
    """The normal distribution function, to 1e-7 (Abramowitz and Stegun, 7.1.26)."""
    far = np.abs(values) / math.sqrt(2)
    t = 1 / (1 + 0.3275911 * far)
    polynomial = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + t * (-1.453152027 + t * 1.061405429))))
    tail = polynomial * np.exp(-far * far) / 2
    return np.where(values < 0, tail, 1 - tail)
