"""Number systems of Python scalars: 60 digits with mpmath, and rigorous balls where python-flint is installed."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import mpmath
import numpy as np

from .numbers import Site

try:
    import flint
except ImportError:  # optional: mpmath answers the same questions, about five times slower
    flint = None

DIGITS = 60
"""Decimal digits of both systems."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scalars:
    """A number system held in numpy object arrays.

    number: makes a scalar from a float, exactly. precision: a context manager within which the scalars have `DIGITS`
    digits. exp_of, rsqrt_of, log1p_of: functions of one scalar.
    """

    name: str
    number: Callable[[float], Any]
    exp_of: Callable[[Any], Any]
    rsqrt_of: Callable[[Any], Any]
    log1p_of: Callable[[Any], Any]
    precision: Callable[[], contextlib.AbstractContextManager[Any]]

    def array(self, values: Any) -> np.ndarray:
        values = np.asarray(values)
        return values if values.dtype == object else _map(lambda x: self.number(float(x)), values)

    def constant(self, value: float) -> Any:
        return self.number(value)

    def zeros(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full(shape, self.number(0.0), dtype=object)

    def concatenate(self, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
        return np.concatenate(arrays, axis=axis)

    def exp(self, x: np.ndarray) -> np.ndarray:
        return _map(self.exp_of, x)

    def rsqrt(self, x: np.ndarray) -> np.ndarray:
        return _map(self.rsqrt_of, x)

    def softplus(self, x: np.ndarray) -> np.ndarray:
        return _map(lambda y: self.log1p_of(self.exp_of(y)), x)

    def sigmoid(self, x: np.ndarray) -> np.ndarray:
        return _map(lambda y: 1 / (1 + self.exp_of(-y)), x)

    def at(self, site: Site, x: np.ndarray) -> np.ndarray:
        return x


def _map(function: Callable[[Any], Any], x: np.ndarray) -> np.ndarray:
    # frompyfunc returns a bare scalar for a 0-d array; asarray makes it an array again.
    return np.asarray(np.frompyfunc(function, 1, 1)(x), dtype=object)


def _mpmath() -> tuple[Any, Scalars]:
    # A context of our own: mpmath's global precision stays as it is.
    context = mpmath.MPContext()
    context.dps = DIGITS
    system = Scalars(
        name="mpmath",
        number=context.mpf,
        exp_of=context.exp,
        rsqrt_of=lambda x: 1 / context.sqrt(x),
        log1p_of=context.log1p,
        precision=contextlib.nullcontext,
    )
    return context, system


def _flint() -> Scalars | None:
    if flint is None:
        return None
    context = flint.ctx
    return Scalars(
        name="arb",
        number=flint.arb,
        exp_of=lambda x: x.exp(),
        rsqrt_of=lambda x: x.rsqrt(),
        log1p_of=lambda x: x.log1p(),
        precision=lambda: context.workdps(DIGITS),
    )


_CONTEXT, MP = _mpmath()
"""60 decimal digits; always there."""

ARB = _flint()
"""Balls that provably hold the answer, 60 decimal digits; None without python-flint. Use within `ARB.precision()`."""


def midpoints(values: Any) -> np.ndarray:
    """Floats, mpmath numbers or the midpoints of balls as mpmath numbers, exactly."""

    def convert(x: Any) -> Any:
        if flint is not None and isinstance(x, flint.arb):
            mantissa, exponent = x.mid().man_exp()
            return _CONTEXT.ldexp(_CONTEXT.mpf(int(mantissa)), int(exponent))
        return _CONTEXT.mpf(x if isinstance(x, _CONTEXT.mpf) else float(x))

    return _map(convert, np.asarray(values))


def radius(values: np.ndarray) -> float:
    """The largest radius of an array of balls: its proven error. 0 for other numbers."""
    balls = [x for x in values.flat if flint is not None and isinstance(x, flint.arb)]
    return max((float(x.rad()) for x in balls), default=0.0)


def digits(values: Any, reference: Any) -> float:
    """Decimal digits to which two arrays agree, relative to the largest entry of the reference; inf if equal."""
    a, b = midpoints(values), midpoints(reference)
    error, size = (max((abs(x) for x in y.flat), default=_CONTEXT.mpf(0)) for y in (a - b, b))
    if error == 0:
        return float("inf")
    return float(-_CONTEXT.log10(error / size)) if size else float("-inf")
