"""Exact arithmetic: float32 values are elements of F_p x Z_q (see `specs.arithmetic.field`), held as their uint32 payloads.

Registers of every floating-point type are held so, which makes all of them as wide as float32: a value that is cast to a narrower
type goes on unharmed, and the cast is recorded. An operation outside the algebra (comparisons, max, bit tricks, unknown
functions) is recorded and gives OUTSIDE, which absorbs everything it touches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter

from ....specs.arithmetic import field
from ....specs.arithmetic.field import OUTSIDE, FieldArray
from ..builder import reciprocal_root
from ..records import Records, kernel_place
from .protocol import COMPARISONS, Handle, is_float
from .shadow import Shadow

_PAYLOAD = np.dtype(np.uint32)

BINARY: dict[Callable[..., Any], Callable[[FieldArray, FieldArray], FieldArray]] = {
    np.add: lambda x, y: x + y,
    np.subtract: lambda x, y: x - y,
    np.multiply: lambda x, y: x * y,
    np.divide: lambda x, y: x / y,
}

UNARY: dict[Callable[..., Any], Callable[[FieldArray], FieldArray]] = {
    np.negative: lambda x: -x,
    np.exp: field.exp,
    np.exp2: field.exp2,
    np.log: field.log,
    np.log2: field.log2,
    np.sqrt: field.sqrt,
    reciprocal_root: field.rsqrt,
}

AXIOMS: dict[str, Callable[[FieldArray], FieldArray]] = {
    "softplus": field.softplus,
    "softplus_nv": field.softplus,
    "softplus_triton": field.softplus,
    "sigmoid": field.sigmoid,
}
"""Device functions of one argument known by name: written with branches for range, they stand for a formula."""


class Exact:
    """See `Arithmetic`."""

    def __init__(self, records: Records, shadow: Shadow) -> None:
        self.records = records
        self.shadow = shadow

    def storage(self, dtype: tl.dtype) -> np.dtype | None:
        return _PAYLOAD

    def constant(self, value: float, dtype: tl.dtype) -> np.ndarray:
        return np.array([field.constant_bits(float(value))], dtype=_PAYLOAD)

    def binary(self, op: Callable[..., Any], x: Handle, y: Handle) -> np.ndarray:
        if op in BINARY:
            return BINARY[op](FieldArray(x.data), FieldArray(y.data)).bits
        if op in COMPARISONS:
            self._unsupported(f"comparison {op.__name__}")
            return np.zeros(np.broadcast_shapes(x.data.shape, y.data.shape), dtype=bool)
        return self._lost(op.__name__, np.broadcast_shapes(x.data.shape, y.data.shape))

    def unary(self, op: Callable[..., Any], x: Handle) -> np.ndarray:
        if op in UNARY:
            return UNARY[op](FieldArray(x.data)).bits
        return self._lost(op.__name__, x.data.shape)

    def fma(self, x: Handle, y: Handle, z: Handle) -> np.ndarray:
        return (FieldArray(x.data) * FieldArray(y.data) + FieldArray(z.data)).bits

    def dot(self, a: Handle, b: Handle, acc: Handle, precision: str) -> np.ndarray:
        return (FieldArray(a.data) @ FieldArray(b.data) + FieldArray(acc.data)).bits

    def cast(self, x: Handle, dtype: tl.dtype, *, toward_zero: bool = False) -> np.ndarray:
        source = x.dtype.scalar
        if not is_float(source):
            return field.integers(x.data).bits
        if not is_float(dtype):
            self._unsupported(f"cast to {dtype.name}")
            return np.zeros(x.data.shape, dtype=triton_interpreter._get_np_dtype(dtype))
        if dtype.primitive_bitwidth < min(source.primitive_bitwidth, 32):
            self.records.add_narrowing(kernel_place())
        return x.data

    def bitcast(self, x: Handle, dtype: tl.dtype) -> np.ndarray:
        if is_float(x.dtype.scalar) and is_float(dtype):
            return x.data
        self._unsupported(f"bitcast to {dtype.name}")
        held = triton_interpreter._get_np_dtype(dtype)
        return np.full(x.data.shape, OUTSIDE if is_float(dtype) else 0, dtype=held)

    def total(self, x: Handle, axis: int | None, keep_dims: bool) -> np.ndarray:
        return FieldArray(x.data).sum(axis, keep_dims).bits

    def running_total(self, x: Handle, axis: int) -> np.ndarray:
        return FieldArray(x.data).cumsum(axis).bits

    def extremum(self, op: Callable[..., Any], x: Handle, axis: int | None, keep_dims: bool) -> np.ndarray:
        shape = np.any(np.zeros(x.data.shape, dtype=bool), axis=axis, keepdims=keep_dims).shape
        lost = self._lost(op.__name__, shape)
        return np.zeros(shape, dtype=np.int32) if "arg" in op.__name__ else lost

    def load(self, addresses: np.ndarray, mask: np.ndarray, other: np.ndarray | None, dtype: tl.dtype) -> np.ndarray:
        if other is None:
            other = np.zeros(addresses.shape, dtype=_PAYLOAD)
        if dtype == tl.float32:
            loaded = triton_interpreter._interpreter.load(addresses, mask, other, _PAYLOAD)
            return field.unpack(loaded).bits
        bits, complete = self.shadow.load(addresses[mask])
        if not complete:
            self._unsupported(f"load of {dtype.name}")
        loaded = np.array(np.broadcast_to(other, addresses.shape))
        loaded[mask] = bits
        return loaded

    def store(self, addresses: np.ndarray, value: Handle, mask: np.ndarray, dtype: tl.dtype) -> None:
        if dtype == tl.float32:
            triton_interpreter._interpreter.store(addresses, value.data, mask)
            return
        self.shadow.store(addresses[mask], value.data[mask])

    def atomic_add(self, addresses: np.ndarray, value: Handle, mask: np.ndarray, dtype: tl.dtype) -> np.ndarray | None:
        old = np.zeros(addresses.shape, dtype=_PAYLOAD)
        for index in zip(*np.nonzero(mask), strict=True):  # one by one: addresses may repeat
            cell, on = addresses[index].reshape(1), np.ones(1, dtype=bool)
            old[index] = self.load(cell, on, None, dtype)[0]
            summed = FieldArray(old[index]) + FieldArray(value.data[index])
            self.store(cell, triton_interpreter.TensorHandle(summed.bits.reshape(1), dtype), on, dtype)
        return old

    def override(self, function: str) -> Callable[[Handle], np.ndarray] | None:
        formula = AXIOMS.get(function)
        if formula is None:
            return None
        self.records.add_axiom(function)
        return lambda x: formula(FieldArray(x.data)).bits

    def _unsupported(self, operation: str) -> None:
        self.records.add_unsupported(operation, kernel_place())

    def _lost(self, operation: str, shape: tuple[int, ...]) -> np.ndarray:
        self._unsupported(operation)
        return np.full(shape, OUTSIDE, dtype=_PAYLOAD)
