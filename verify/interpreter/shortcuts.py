"""The common cases of the language, without its type machinery.

An interpreted `a + b` spends ten times more in Triton's type promotion and broadcasting, written for a compiler, than
in numpy. Where both operands have one type, or are integers of two widths, or one is a Python number that takes the type
of the other, there is little to be promoted and numpy broadcasts the same way. Where a shortcut does not apply, the
language's own function runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.interpreter import TensorHandle

from .arithmetic.protocol import COMPARISONS, FLOATS
from .builder import HarnessBuilder

_ARITHMETIC = {"add": np.add, "sub": np.subtract, "mul": np.multiply}
_COMPARING = {
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
    "eq": np.equal,
    "ne": np.not_equal,
}
_LOGICAL = {"and": np.bitwise_and, "or": np.bitwise_or}
_INTEGERS = {"int32": np.int32, "int64": np.int64}
_INT32 = range(-(2**31), 2**31)
_CASTS = {
    (one.name, other.name): other
    for one, other in (
        (tl.int32, tl.int64), (tl.int64, tl.int32), (tl.int32, tl.float32), (tl.int64, tl.float32),
        (tl.float32, tl.float16), (tl.float32, tl.bfloat16), (tl.float16, tl.float32), (tl.bfloat16, tl.float32),
    )
}  # fmt: skip
"""Types from and to which the language casts in one step -> the second."""


def install(patch: Callable[[Any, str, Any], None], builder: HarnessBuilder, check_overflow: bool) -> None:
    """Put the shortcuts before the operators and casts of `tl.tensor`, and before loads, stores, `where` and rearrangements."""
    results = _Results()
    for names, logical in ((_ARITHMETIC, False), (_COMPARING, False), (_LOGICAL, True)):
        for name, op in names.items():
            compute = _checked if check_overflow and name in _ARITHMETIC else _computed
            for method, swapped in ((f"__{name}__", False), (f"__r{name}__", True)):
                if method in vars(tl.tensor):
                    slow = getattr(tl.tensor, method)
                    patch(tl.tensor, method, _operator(op, swapped, logical, slow, compute, builder, results))
    patch(tl.tensor, "__getitem__", _indexing(tl.tensor.__getitem__, results))
    patch(tl.tensor, "to", _casting(tl.tensor.to, builder, results))
    load, store, where = (f(getattr(tl, f.__name__[1:]), builder, results) for f in (_load, _store, _where))
    for module in (tl, tl.core):
        patch(module, "load", load)
        patch(module, "store", store)
        patch(module, "where", where)
        for name, arrange in _ARRANGEMENTS.items():
            patch(module, name, arrange(getattr(tl.core, name), results))


class _Results:
    """Makes tensors from numpy arrays; shapes and types that come back are not made again."""

    def __init__(self) -> None:
        self._examples: dict[tuple[int, bool, tuple[int, ...]], tl.tensor] = {}

    def __call__(self, data: np.ndarray, dtype: Any, is_block: bool) -> tl.tensor:
        handle = TensorHandle(data, dtype)
        key = (id(dtype), is_block, data.shape)
        example = self._examples.get(key)
        if example is None:
            kind = tl.block_type(dtype, list(data.shape)) if is_block else dtype
            example = self._examples[key] = tl.tensor(handle, kind)  # keeps `dtype` alive, and with it its id
        made = object.__new__(tl.tensor)
        made.__dict__.update(example.__dict__)
        made.handle = handle
        return made


def _operator(
    op: Callable[..., Any],
    swapped: bool,
    logical: bool,
    slow: Callable[..., Any],
    compute: Callable[..., np.ndarray | None],
    builder: HarnessBuilder,
    results: _Results,
) -> Callable[..., Any]:
    def call(self: tl.tensor, other: Any) -> Any:
        dtype, operand = self.dtype, _operand(self, other, logical, builder)
        if operand is None and not logical and _are_integers(self, other):
            # numpy widens the one of 32 bits, as the language does.
            dtype, operand = tl.int64, other.handle
        if operand is None:
            moved = _moved(self, other, results) if op is np.add else None
            return slow(self, other) if moved is None else moved
        data = compute(builder, op, *((operand, self.handle) if swapped else (self.handle, operand)))
        if data is None:
            return slow(self, other)
        is_block = self.type.is_block() or (type(other) is tl.tensor and other.type.is_block())
        return results(data, tl.int1 if op in COMPARISONS else dtype, is_block)

    return call


def _computed(builder: HarnessBuilder, op: Callable[..., Any], left: TensorHandle, right: TensorHandle) -> np.ndarray:
    # Held as numpy holds their types, and so is the result.
    plain = left.dtype is tl.int32 or left.dtype is tl.int64 or left.dtype is tl.int1
    return op(left.data, right.data) if plain else builder.binary_op(left, right, op).data


def _checked(
    builder: HarnessBuilder, op: Callable[..., Any], left: TensorHandle, right: TensorHandle
) -> np.ndarray | None:
    """None where 32 bits do not hold the result: the language's own function says so. It does not look at 64."""
    if left.dtype is not tl.int32 or right.dtype is not tl.int32:
        return _computed(builder, op, left, right)
    wide = op(left.data.astype(np.int64), right.data.astype(np.int64))
    data = wide.astype(np.int32)
    return data if np.array_equal(data, wide) else None


def _operand(one: tl.tensor, other: Any, logical: bool, builder: HarnessBuilder) -> TensorHandle | None:
    """The handle of `other` where it has the type of `one`, or takes it."""
    dtype = one.dtype
    if type(other) is tl.tensor:
        known = dtype is tl.int1 if logical else dtype.name in FLOATS or dtype.name in _INTEGERS
        return other.handle if other.dtype is dtype and known else None
    if logical or type(other) not in (int, float):
        return None
    if dtype.name in FLOATS:
        return TensorHandle(builder.arithmetic.constant(other, dtype), dtype)
    if dtype.name in _INTEGERS and type(other) is int and other in _INT32:
        return TensorHandle(np.array([other], dtype=_INTEGERS[dtype.name]), dtype)
    return None


def _are_integers(one: tl.tensor, other: Any) -> bool:
    return type(other) is tl.tensor and one.dtype.name in _INTEGERS and other.dtype.name in _INTEGERS


def _moved(one: tl.tensor, other: Any, results: _Results) -> tl.tensor | None:
    """The sum of a pointer and an offset, in either order."""
    if type(other) is tl.tensor:
        return _move_pointer(one, other, results) or _move_pointer(other, one, results)
    if type(other) is int and other in _INT32 and one.dtype.is_ptr():
        return results(one.handle.data + _bytes(one, np.int64(other)), one.dtype, one.type.is_block())
    return None


def _move_pointer(pointer: tl.tensor, offset: tl.tensor, results: _Results) -> tl.tensor | None:
    if not pointer.dtype.is_ptr() or offset.dtype.name not in _INTEGERS:
        return None
    data = pointer.handle.data + _bytes(pointer, offset.handle.data)
    return results(data, pointer.dtype, pointer.type.is_block() or offset.type.is_block())


def _bytes(pointer: tl.tensor, elements: Any) -> Any:
    # a negative offset wraps, as the address does
    return np.uint64(max(1, pointer.dtype.element_ty.primitive_bitwidth // 8)) * elements.astype(np.uint64)


def _indexing(slow: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    def index(self: tl.tensor, slices: Any) -> tl.tensor:
        plain = type(slices) is tuple and self.type.is_block() and all(x is None or x == slice(None) for x in slices)
        if plain and sum(x is not None for x in slices) == len(self.shape):
            return results(self.handle.data[slices], self.dtype, True)
        return slow(self, slices)

    return index


def _casting(slow: Callable[..., Any], builder: HarnessBuilder, results: _Results) -> Callable[..., Any]:
    def to(self: tl.tensor, dtype: Any, *rest: Any, **options: Any) -> tl.tensor:
        if rest or options or type(dtype) is not tl.dtype:
            return slow(self, dtype, *rest, **options)
        if dtype.name == self.dtype.name:
            return self
        target = _CASTS.get((self.dtype.name, dtype.name))
        if target is None:
            return slow(self, dtype)
        return results(builder.cast_impl(self.handle, target).data, target, self.type.is_block())

    return to


def _reshaping(slow: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    def reshape(input: Any, *shape: Any, **options: Any) -> Any:
        sizes = _numbers(shape)
        if options or sizes is None or not _is_block(input) or math.prod(sizes) != input.handle.data.size:
            return slow(input, *shape, **options)
        return results(input.handle.data.reshape(sizes), input.dtype, True)

    return reshape


def _permuting(slow: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    def permute(input: Any, *dims: Any, **options: Any) -> Any:
        order = _numbers(dims)
        if options or order is None or not _is_block(input) or sorted(order) != list(range(input.handle.data.ndim)):
            return slow(input, *dims, **options)
        return results(input.handle.data.transpose(order), input.dtype, True)

    return permute


def _joining(slow: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    def join(a: Any, b: Any, **options: Any) -> Any:
        alike = not options and _is_block(a) and _is_block(b) and a.dtype is b.dtype
        if not alike or a.handle.data.shape != b.handle.data.shape:
            return slow(a, b, **options)
        return results(np.stack((a.handle.data, b.handle.data), -1), a.dtype, True)

    return join


def _splitting(slow: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    def split(a: Any, **options: Any) -> Any:
        if options or not _is_block(a) or a.handle.data.ndim < 2 or a.handle.data.shape[-1] != 2:
            return slow(a, **options)
        return tuple(results(a.handle.data[..., i], a.dtype, True) for i in (0, 1))

    return split


def _expanding(slow: Callable[..., Any], results: _Results) -> Callable[..., Any]:
    def expand_dims(input: Any, axis: Any, **options: Any) -> Any:
        place = _numbers((axis,))
        if options or place is None or len(place) != 1 or not _is_block(input):
            return slow(input, axis, **options)
        return results(np.expand_dims(input.handle.data, place[0]), input.dtype, True)

    return expand_dims


_ARRANGEMENTS = {
    "reshape": _reshaping, "permute": _permuting, "join": _joining, "split": _splitting, "expand_dims": _expanding,
}  # fmt: skip


def _is_block(value: Any) -> bool:
    return type(value) is tl.tensor and value.type.is_block()


def _numbers(given: tuple[Any, ...]) -> list[int] | None:
    """Sizes or axes, given one by one or in a tuple; None where they are something else."""
    if len(given) == 1 and isinstance(given[0], (tuple, list, tl.tuple)):
        given = tuple(given[0])
    numbers = [x.value if isinstance(x, tl.constexpr) else x for x in given]
    return numbers if all(type(x) is int for x in numbers) else None


def _load(slow: Callable[..., Any], builder: HarnessBuilder, results: _Results) -> Callable[..., Any]:
    def load(pointer: Any, mask: Any = None, other: Any = None, *rest: Any, **options: Any) -> Any:
        plain = (
            not rest
            and not options.keys() & {"boundary_check", "padding_option"}
            and _is_pointer(pointer)
            and _is_mask(mask)
        )
        if not plain or type(other) not in (type(None), int, float) or (mask is None and other is not None):
            return slow(pointer, mask, other, *rest, **options)
        dtype, is_block = pointer.dtype.element_ty, pointer.type.is_block()
        if mask is not None and mask.type.is_block() and not is_block:
            return slow(pointer, mask, other, **options)
        ptrs, on = _spread(pointer.handle, mask)
        fill = None
        if other is not None:
            fill = TensorHandle(np.broadcast_to(_number(other, dtype, builder), ptrs.data.shape), dtype)
        return results(builder.create_masked_load(ptrs, on, fill).data, dtype, is_block)

    return load


def _store(slow: Callable[..., Any], builder: HarnessBuilder, results: _Results) -> Callable[..., Any]:
    def store(pointer: Any, value: Any, mask: Any = None, *rest: Any, **options: Any) -> Any:
        plain = (
            not rest
            and "boundary_check" not in options
            and _is_pointer(pointer)
            and _is_mask(mask)
            and type(value) is tl.tensor
        )
        if not plain or value.dtype is not pointer.dtype.element_ty or not pointer.type.is_block():
            return slow(pointer, value, mask, *rest, **options)
        shape = pointer.handle.data.shape
        wider = [x for x in (value, mask) if x is not None and x.type.is_block() and x.handle.data.shape != shape]
        if any(np.broadcast_shapes(shape, x.handle.data.shape) != shape for x in wider):
            return slow(pointer, value, mask, *rest, **options)
        ptrs, on = _spread(pointer.handle, mask)
        values = TensorHandle(np.broadcast_to(value.handle.data, shape), value.dtype)
        builder.create_masked_store(ptrs, values, on)
        return None

    return store


def _where(slow: Callable[..., Any], builder: HarnessBuilder, results: _Results) -> Callable[..., Any]:
    def where(condition: Any, x: Any, y: Any) -> Any:
        one, other = (x, y) if type(x) is tl.tensor else (y, x)
        if type(one) is not tl.tensor or type(condition) is not tl.tensor or condition.dtype is not tl.int1:
            return slow(condition, x, y)
        operand = _operand(one, other, False, builder)
        is_block = one.type.is_block() or (type(other) is tl.tensor and other.type.is_block())
        if operand is None or (is_block and not condition.type.is_block()):
            return slow(condition, x, y)
        left, right = (one.handle, operand) if one is x else (operand, one.handle)
        data = np.where(condition.handle.data, left.data, right.data)
        return results(data, one.dtype, is_block or condition.type.is_block())

    return where


def _is_pointer(value: Any) -> bool:
    return type(value) is tl.tensor and value.dtype.is_ptr() and value.dtype.element_ty.name != "int1"


def _is_mask(value: Any) -> bool:
    return value is None or (type(value) is tl.tensor and value.dtype is tl.int1)


def _number(value: float, dtype: tl.dtype, builder: HarnessBuilder) -> np.ndarray:
    if dtype.name in FLOATS:
        return builder.arithmetic.constant(value, dtype)
    return np.array([value]).astype(triton_interpreter._get_np_dtype(dtype))


def _spread(pointer: TensorHandle, mask: tl.tensor | None) -> tuple[TensorHandle, np.ndarray]:
    """Pointers and mask in their common shape."""
    if mask is None:
        return pointer, np.ones(pointer.data.shape, dtype=bool)
    if pointer.data.shape == mask.handle.data.shape:
        return pointer, mask.handle.data
    addresses, on = np.broadcast_arrays(pointer.data, mask.handle.data)
    return (pointer if addresses.shape == pointer.data.shape else TensorHandle(addresses, pointer.dtype)), on
