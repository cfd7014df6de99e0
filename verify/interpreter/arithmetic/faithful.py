"""IEEE arithmetic as a GPU does it, which corrects Triton's interpreter for bfloat16 and TF32.

float16 and bfloat16 values are widened, computed in float32 and rounded once (which rounds +, -, *, / correctly);
their sums are trees that round at every node, as a GPU's are. A dot multiplies exact (or TF32) operands and
accumulates in float32.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter

from .formats import round_bf16, round_tf32, truncate_bf16, widen_bf16
from .protocol import COMPARISONS, Handle

_HALVES = (tl.bfloat16, tl.float16)

_SPLITS: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {
    "tf32": (round_tf32, 1),
    "tf32x3": (round_tf32, 2),
    "bf16x3": (lambda x: widen_bf16(round_bf16(x)), 2),
    "bf16x6": (lambda x: widen_bf16(round_bf16(x)), 3),
}
"""How an input precision rounds a float32 operand, and into how many such terms it splits it."""


class Faithful:
    """See `Arithmetic`. Values are held as the interpreter holds them: bfloat16 as uint16 bits, the rest natively."""

    def storage(self, dtype: tl.dtype) -> np.dtype | None:
        return None

    def constant(self, value: float, dtype: tl.dtype) -> np.ndarray:
        return _narrow(np.array([value], dtype=np.float64 if dtype == tl.float64 else np.float32), dtype)

    def binary(self, op: Callable[..., Any], x: Handle, y: Handle) -> np.ndarray:
        dtype = x.dtype.scalar
        if dtype not in _HALVES:
            return op(x.data, y.data)
        result = op(_wide(x), _wide(y))
        return result if op in COMPARISONS else _narrow(result, dtype)

    def unary(self, op: Callable[..., Any], x: Handle) -> np.ndarray:
        return _narrow(op(_wide(x)), x.dtype.scalar)

    def fma(self, x: Handle, y: Handle, z: Handle) -> np.ndarray:
        # a product of two float32 is exact in float64; the one further rounding of the sum almost never shows
        dtype = z.dtype.scalar
        if dtype == tl.float64:
            return x.data * y.data + z.data
        total = _wide(x).astype(np.float64) * _wide(y) + _wide(z)
        return _narrow(total.astype(np.float32), dtype)

    def dot(self, a: Handle, b: Handle, acc: Handle, precision: str) -> np.ndarray:
        left, right = _wide(a), _wide(b)
        if a.dtype.scalar == tl.float32 and precision in _SPLITS:
            product = _split_product(left, right, *_SPLITS[precision])
        else:
            product = np.matmul(left, right)
        return _narrow(product + _wide(acc), acc.dtype.scalar)

    def cast(self, x: Handle, dtype: tl.dtype, *, toward_zero: bool = False) -> np.ndarray:
        values = _wide(x)
        if dtype == tl.bfloat16:
            return (truncate_bf16 if toward_zero else round_bf16)(values.astype(np.float32))
        if toward_zero and dtype == tl.float16:
            rounded = values.astype(np.float16)
            return np.where(np.abs(rounded) > np.abs(values), np.nextafter(rounded, np.float16(0)), rounded)
        return values.astype(triton_interpreter._get_np_dtype(dtype))

    def bitcast(self, x: Handle, dtype: tl.dtype) -> np.ndarray:
        return x.data.view(triton_interpreter._get_np_dtype(dtype))

    def total(self, x: Handle, axis: int | None, keep_dims: bool) -> np.ndarray:
        dtype = x.dtype.scalar
        if dtype not in _HALVES:
            return np.sum(x.data, axis=axis, keepdims=keep_dims)
        values = np.moveaxis(_wide(x), axis, 0) if axis is not None else _wide(x).reshape(-1)
        while len(values) > 1:  # a power of two, as all Triton shapes
            half = len(values) // 2
            values = _wide_again(values[:half] + values[half:], dtype)
        result = _narrow(values[0], dtype)
        if not keep_dims:
            return result
        return np.expand_dims(result, axis) if axis is not None else result.reshape((1,) * x.data.ndim)

    def running_total(self, x: Handle, axis: int) -> np.ndarray:
        return _narrow(np.cumsum(_wide(x), axis=axis), x.dtype.scalar)

    def extremum(self, op: Callable[..., Any], x: Handle, axis: int | None, keep_dims: bool) -> np.ndarray:
        result = op(_wide(x), axis=axis, keepdims=keep_dims)
        return result if np.issubdtype(result.dtype, np.integer) else _narrow(result, x.dtype.scalar)

    def load(self, addresses: np.ndarray, mask: np.ndarray, other: np.ndarray | None, dtype: tl.dtype) -> np.ndarray:
        held = triton_interpreter._get_np_dtype(dtype)
        if other is None:
            other = np.zeros(addresses.shape, dtype=held)
        return triton_interpreter._interpreter.load(addresses, mask, other, held)

    def store(self, addresses: np.ndarray, value: Handle, mask: np.ndarray, dtype: tl.dtype) -> None:
        triton_interpreter._interpreter.store(addresses, value.data, mask)

    def atomic_add(self, addresses: np.ndarray, value: Handle, mask: np.ndarray, dtype: tl.dtype) -> np.ndarray | None:
        if dtype == tl.bfloat16:
            raise NotImplementedError(
                "atomic_add on bfloat16: the interpreter would add the bits; accumulate in float32"
            )
        return None

    def override(self, function: str) -> Callable[[Handle], np.ndarray] | None:
        return None


def _wide(x: Handle) -> np.ndarray:
    """The values of a handle in a type that numpy computes in."""
    dtype = x.dtype.scalar
    if dtype == tl.bfloat16:
        return widen_bf16(x.data)
    return x.data.astype(np.float32) if dtype == tl.float16 else x.data


def _narrow(values: np.ndarray, dtype: tl.dtype) -> np.ndarray:
    if dtype == tl.bfloat16:
        return round_bf16(values)
    return np.asarray(values).astype(triton_interpreter._get_np_dtype(dtype), copy=False)


def _wide_again(values: np.ndarray, dtype: tl.dtype) -> np.ndarray:
    return widen_bf16(round_bf16(values)) if dtype == tl.bfloat16 else values.astype(np.float16).astype(np.float32)


def _split_product(
    a: np.ndarray, b: np.ndarray, rounding: Callable[[np.ndarray], np.ndarray], terms: int
) -> np.ndarray:
    """a @ b of operands that are sums of rounded terms; the smallest products are left out, small ones added first."""

    def parts(x: np.ndarray) -> list[np.ndarray]:
        found = []
        for _ in range(terms):
            found.append(rounding(np.ascontiguousarray(x)))
            x = x - found[-1]
        return found

    left, right = parts(a), parts(b)
    pairs = sorted(((i, j) for i in range(terms) for j in range(terms) if i + j < terms), key=sum, reverse=True)
    return sum((np.matmul(left[i], right[j]) for i, j in pairs), start=np.float32(0))  # type: ignore[return-value]
