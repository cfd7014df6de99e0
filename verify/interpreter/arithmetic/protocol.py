"""The meaning of floating-point values: the contract between Triton's interpreter and any replacement of its arithmetic.

A `Handle` is Triton's `TensorHandle`: a numpy array `data` and a scalar Triton type `dtype`. An `Arithmetic` decides how
floating-point values are held in `data` and the effect of every operation on them; integers, booleans and pointers never reach
it. Operations that are numpy functions are named by these functions (`np.add`, `np.exp2`, `np.less`, ...), the rest by a method.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import numpy as np
import triton.language as tl

Handle = Any
"""triton.runtime.interpreter.TensorHandle"""

FLOATS = frozenset(("fp16", "bf16", "fp32", "fp64"))
"""The types an `Arithmetic` takes over; 8-bit floats are left to the interpreter."""

COMPARISONS = frozenset((np.less, np.less_equal, np.greater, np.greater_equal, np.equal, np.not_equal))


def is_float(dtype: Any) -> bool:
    """Whether a scalar Triton type is floating-point (pointers are not)."""
    return type(dtype) is tl.dtype and dtype.name in FLOATS


class Arithmetic(Protocol):
    """Semantics of floating-point values. Methods take Handles and give the `data` of the result."""

    def storage(self, dtype: tl.dtype) -> np.dtype | None:
        """numpy type that holds values of a floating-point type; None for the interpreter's own."""
        ...

    def constant(self, value: float, dtype: tl.dtype) -> np.ndarray:
        """A literal, as an array of one element."""
        ...

    def binary(self, op: Callable[..., Any], x: Handle, y: Handle) -> np.ndarray:
        """Booleans where `op` is a comparison, else values of the type of `x`."""
        ...

    def unary(self, op: Callable[..., Any], x: Handle) -> np.ndarray: ...

    def fma(self, x: Handle, y: Handle, z: Handle) -> np.ndarray:
        """x * y + z, rounded once."""
        ...

    def dot(self, a: Handle, b: Handle, acc: Handle, precision: str) -> np.ndarray:
        """a @ b + acc; `precision` is the lower-case name of Triton's input precision."""
        ...

    def cast(self, x: Handle, dtype: tl.dtype, *, toward_zero: bool = False) -> np.ndarray:
        """To or from a floating-point type (or between two)."""
        ...

    def bitcast(self, x: Handle, dtype: tl.dtype) -> np.ndarray: ...

    def total(self, x: Handle, axis: int | None, keep_dims: bool) -> np.ndarray:
        """The sum along an axis, or of everything."""
        ...

    def running_total(self, x: Handle, axis: int) -> np.ndarray: ...

    def extremum(self, op: Callable[..., Any], x: Handle, axis: int | None, keep_dims: bool) -> np.ndarray:
        """`op` is np.min, np.max (or a variant that skips NaN), np.argmin or np.argmax; integers for the last two."""
        ...

    def load(self, addresses: np.ndarray, mask: np.ndarray, other: np.ndarray | None, dtype: tl.dtype) -> np.ndarray:
        """Values at byte addresses (uint64) where mask, else `other` (0 where there is none)."""
        ...

    def store(self, addresses: np.ndarray, value: Handle, mask: np.ndarray, dtype: tl.dtype) -> None:
        """`dtype` is that of the pointer, which the value has been cast to."""
        ...

    def atomic_add(self, addresses: np.ndarray, value: Handle, mask: np.ndarray, dtype: tl.dtype) -> np.ndarray | None:
        """The old values; None to let the interpreter do it."""
        ...

    def override(self, function: str) -> Callable[[Handle], np.ndarray] | None:
        """A formula to use in place of the device function of this name, or None."""
        ...
