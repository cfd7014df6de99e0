"""The arithmetic that the rule is written over.

`specs.oracle.recurrence` states the rule once, in terms of `+ - *`, sums and the few functions below. A `Numbers` supplies
them, so that the same text runs in float64, in 60-digit arithmetic, in rigorous balls, in a finite field, or with
simulated rounding.

Arrays are numpy-like. Of an array the rule uses `+`, `-`, `*`, unary minus, `shape`, `reshape`, slices, `...` and
`None` as indices, and `.sum(axis=int)`. Array operands stand on the left of constants.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, Protocol

import numpy as np

Array = Any
"""An array of some number system."""

Site = Literal["input", "operand", "product", "state", "exponent", "gate", "output"]
"""Where an implementation may round.

input: a tensor as loaded. operand: an input of a contraction. product: one product inside a contraction.
state: the carried state. exponent: sums of log-decays. gate: their exponential, and gradients of gates.
output: a tensor as stored, gradients included.
"""


class Numbers(Protocol):
    """One arithmetic. All methods are element-wise and keep the shape of their argument unless they say otherwise."""

    def array(self, values: Any) -> Array:
        """`values`, a float64 array, in this system; an array that is of this system already stays as it is."""
        ...

    def constant(self, value: float) -> Any:
        """A scalar that may stand on the right of an array operator."""
        ...

    def zeros(self, shape: tuple[int, ...]) -> Array: ...

    def concatenate(self, arrays: Sequence[Array], axis: int) -> Array:
        """Join along an existing axis, counted from the end (negative); at least one array; sizes along it may be 0."""
        ...

    def exp(self, x: Array) -> Array:
        """e ** x; 0 where x is -inf."""
        ...

    def rsqrt(self, x: Array) -> Array:
        """1 / sqrt(x)."""
        ...

    def softplus(self, x: Array) -> Array:
        """log(1 + exp(x)), without overflow."""
        ...

    def sigmoid(self, x: Array) -> Array:
        """1 / (1 + exp(-x)), without overflow: the derivative of softplus."""
        ...

    def at(self, site: Site, x: Array) -> Array:
        """`x` as it leaves this rounding site: `x` itself in an arithmetic that does not round there."""
        ...


class Float64:
    """IEEE double precision on numpy arrays."""

    def array(self, values: Any) -> np.ndarray:
        return np.asarray(values, dtype=np.float64)

    def constant(self, value: float) -> float:
        return value

    def zeros(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.zeros(shape)

    def concatenate(self, arrays: Sequence[np.ndarray], axis: int) -> np.ndarray:
        return np.concatenate(arrays, axis=axis)

    def exp(self, x: np.ndarray) -> np.ndarray:
        return np.exp(x)

    def rsqrt(self, x: np.ndarray) -> np.ndarray:
        return 1 / np.sqrt(x)

    def softplus(self, x: np.ndarray) -> np.ndarray:
        return np.logaddexp(0, x)

    def sigmoid(self, x: np.ndarray) -> np.ndarray:
        return np.exp(-np.logaddexp(0, -x))

    def at(self, site: Site, x: np.ndarray) -> np.ndarray:
        return x

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """a @ b, of which every product may round; for oracles that are float64 by nature."""
        return a @ b


FLOAT64 = Float64()
