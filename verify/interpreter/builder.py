"""Triton's interpreter builder, its floating-point operations handed to an `Arithmetic` and its accesses to a `Memory`.

A session swaps the class of Triton's one builder object for `HarnessBuilder`, and back: every kernel refers to that
object. Methods keep the names and arguments that Triton's language layer calls; cache and eviction hints differ
between versions and mean nothing here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from .arithmetic.protocol import COMPARISONS, Arithmetic, Handle, is_float, reciprocal_root
from .records import Records, kernel_place

if TYPE_CHECKING:
    from .addresses.memory import Memory

_ADDITIONS = (triton_interpreter._ir.ATOMIC_OP.FADD,)


class HarnessBuilder(InterpreterBuilder):
    """The fields are set on the builder object when a session begins."""

    arithmetic: Arithmetic
    memory: Memory | None
    records: Records

    # Constants

    def get_fp16(self, value: float) -> Handle:
        return self._constant(value, tl.float16)

    def get_bf16(self, value: float) -> Handle:
        return self._constant(value, tl.bfloat16)

    def get_fp32(self, value: float) -> Handle:
        return self._constant(value, tl.float32)

    def get_fp64(self, value: float) -> Handle:
        return self._constant(value, tl.float64)

    def _constant(self, value: float, dtype: tl.dtype) -> Handle:
        return TensorHandle(self.arithmetic.constant(value, dtype), dtype)

    # Element-wise operations

    def binary_op(self, lhs: Handle, rhs: Handle, op: Callable[..., Any]) -> Handle:
        dtype = lhs.dtype.scalar
        if is_float(dtype):
            data = self.arithmetic.binary(op, lhs, rhs)
            return TensorHandle(data, tl.int1 if op in COMPARISONS else dtype)
        result = super().binary_op(lhs, rhs, op)
        if op in COMPARISONS:
            result.dtype = tl.int1
        return result

    def unary_op(self, arg: Handle, op: Callable[..., Any]) -> Handle:
        dtype = arg.dtype.scalar
        return TensorHandle(self.arithmetic.unary(op, arg), dtype) if is_float(dtype) else super().unary_op(arg, op)

    def create_fneg(self, arg: Handle) -> Handle:
        return self.unary_op(arg, np.negative)

    def create_fabs(self, arg: Handle) -> Handle:
        return self.unary_op(arg, np.abs)

    def create_rsqrt(self, arg: Handle) -> Handle:
        return self.unary_op(arg, reciprocal_root)

    def create_erf(self, arg: Handle) -> Handle:
        return self.unary_op(arg, triton_interpreter.np_erf_fp64)

    # minnum and maxnum skip NaN on a GPU
    def create_minnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmin)

    def create_maxnumf(self, lhs: Handle, rhs: Handle) -> Handle:
        return self.binary_op(lhs, rhs, np.fmax)

    def create_clampf(self, arg: Handle, lo: Handle, hi: Handle, propagate_nans: Any) -> Handle:
        skip = propagate_nans == triton_interpreter._ir.PROPAGATE_NAN.NONE
        low, high = (np.fmax, np.fmin) if skip else (np.maximum, np.minimum)
        return self.binary_op(self.binary_op(arg, lo, low), hi, high)

    def create_fma(self, x: Handle, y: Handle, z: Handle) -> Handle:
        dtype = z.dtype.scalar
        if is_float(dtype):
            return TensorHandle(self.arithmetic.fma(x, y, z), dtype)
        return super().create_fma(x, y, z)

    def create_dot(self, a: Handle, b: Handle, d: Handle, input_precision: Any, max_num_imprecise_acc: int) -> Handle:
        dtype = a.dtype.scalar
        if not is_float(dtype):
            return super().create_dot(a, b, d, input_precision, max_num_imprecise_acc)
        precision = input_precision.name.lower()
        if dtype == tl.float32 and precision != "ieee":
            self.records.add_rounded_dot(kernel_place())
        return TensorHandle(self.arithmetic.dot(a, b, d, precision), d.dtype.scalar)

    # Casts

    def cast_impl(self, src: Handle, dst_type: Any) -> Handle:
        source, target = src.dtype.scalar, dst_type.scalar
        if (is_float(source) or is_float(target)) and not (source.is_fp8() or target.is_fp8()):
            return TensorHandle(self.arithmetic.cast(src, target), target)
        return super().cast_impl(src, dst_type)

    def create_fp_to_fp(self, src: Handle, dst_type: Any, rounding_mode: Any) -> Handle:
        source, target = src.dtype.scalar, dst_type.scalar
        if source.is_fp8() or target.is_fp8():
            return super().create_fp_to_fp(src, dst_type, rounding_mode)
        toward_zero = rounding_mode == triton_interpreter._ir.ROUNDING_MODE.RTZ
        return TensorHandle(self.arithmetic.cast(src, target, toward_zero=toward_zero), target)

    def create_bitcast(self, src: Handle, dst_type: Any) -> Handle:
        target = dst_type.scalar
        if is_float(src.dtype.scalar) or is_float(target):
            return TensorHandle(self.arithmetic.bitcast(src, target), target)
        return super().create_bitcast(src, dst_type)

    create_int_to_ptr = create_bitcast
    create_ptr_to_int = create_bitcast

    # Memory

    def create_masked_load(self, ptrs: Handle, mask: Any, other: Handle | None, *_: Any, **__: Any) -> Handle:
        dtype = ptrs.get_element_ty()
        addresses, on, fill = ptrs.data, _mask(mask), None if other is None else other.data
        if self.memory is not None:
            on = self.memory.admit("load", addresses, on, dtype)
            fill = self.memory.undefined(addresses.shape, dtype) if fill is None else fill
        if is_float(dtype):
            return TensorHandle(self.arithmetic.load(addresses, on, fill, dtype), dtype)
        held = triton_interpreter._get_np_dtype(dtype)
        fill = np.zeros(addresses.shape, dtype=held) if fill is None else fill
        return TensorHandle(triton_interpreter._interpreter.load(addresses, on, fill, held), dtype)

    def create_masked_store(self, ptrs: Handle, value: Handle, mask: Any, *_: Any, **__: Any) -> None:
        dtype, on = ptrs.get_element_ty(), _mask(mask)
        if self.memory is None:
            self._store(ptrs.data, value, on, dtype)
            return
        on = self.memory.admit("store", ptrs.data, on, dtype)
        with self.memory.storing(ptrs.data, on, dtype):
            self._store(ptrs.data, value, on, dtype)

    def _store(self, addresses: np.ndarray, value: Handle, on: np.ndarray, dtype: tl.dtype) -> None:
        if is_float(dtype):
            self.arithmetic.store(addresses, value, on, dtype)
        else:
            triton_interpreter._interpreter.store(addresses, value.data, on)

    def create_barrier(self) -> None:
        if self.memory is not None:
            self.memory.barrier()

    def create_atomic_cas(self, ptr: Handle, cmp: Handle, val: Handle, sem: Any, scope: Any) -> Handle:
        if self.memory is not None:
            on = np.ones(ptr.data.shape, dtype=bool)
            if not self.memory.admit("atomic", ptr.data, on, ptr.get_element_ty()).all():
                return val
        return super().create_atomic_cas(ptr, cmp, val, sem, scope)

    def create_atomic_rmw(self, rmw_op: Any, ptr: Handle, val: Handle, mask: Handle, sem: Any, scope: Any) -> Handle:
        dtype, on = ptr.get_element_ty(), _mask(mask)
        if self.memory is not None:
            on = self.memory.admit("atomic", ptr.data, on, dtype)
        if is_float(dtype) and rmw_op in _ADDITIONS:
            old = self.arithmetic.atomic_add(ptr.data, val, on, dtype)
            if old is not None:
                return TensorHandle(old, dtype)
        return super().create_atomic_rmw(rmw_op, ptr, val, TensorHandle(on, tl.int1), sem, scope)


def _mask(mask: Any) -> np.ndarray:
    """Masks come as handles, and as bare arrays from block pointers."""
    return mask.data if isinstance(mask, TensorHandle) else np.asarray(mask)
