"""tl.reduce and tl.associative_scan over an `Arithmetic`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import triton.language as tl
from triton.runtime.interpreter import ReduceOps, ScanOps

from .protocol import Arithmetic, is_float


def reducer(arithmetic: Arithmetic) -> Callable[..., Any]:
    """A replacement of `tl.reduce`."""

    class Reduce(ReduceOps):
        def sum(self, input: Any) -> Any:
            if not is_float(input.dtype):
                return super().sum(input)
            return self.to_tensor(arithmetic.total(input.handle, self.axis, self.keep_dims), input.dtype)

        def min_max(self, input: Any, val_reduce_op: Any, idx_reduce_op: Any = None) -> Any:
            values = input[0] if isinstance(input, tuple) else input
            if not is_float(values.dtype):
                return super().min_max(input, val_reduce_op, idx_reduce_op)
            kinds = ((val_reduce_op, values.dtype), (idx_reduce_op, tl.int32))
            found = tuple(
                self.to_tensor(arithmetic.extremum(op, values.handle, self.axis, self.keep_dims), dtype)
                for op, dtype in kinds
                if op is not None
            )
            return found if len(found) > 1 else found[0]

    def reduce(input: Any, axis: int | None, combine_fn: Any, keep_dims: bool = False, **_: Any) -> Any:
        made = Reduce(_plain(axis), combine_fn, _plain(keep_dims))
        known = type(input) is tl.tensor and type(made.axis) is int and 0 <= made.axis < len(input.shape)
        # The common case, without the checks of the others.
        return made.sum(input) if known and combine_fn is tl.standard._sum_combine else made.apply(input)

    return reduce


def scanner(arithmetic: Arithmetic) -> Callable[..., Any]:
    """A replacement of `tl.associative_scan`."""

    class Scan(ScanOps):
        def cumsum(self, input: Any) -> Any:
            if not is_float(input.dtype):
                return super().cumsum(input)
            return [self.to_tensor(arithmetic.running_total(input.handle, self.axis), input.dtype)]

        def cumprod(self, input: Any) -> Any:
            # multiplied pair by pair, in any arithmetic
            return self.generic_scan((input,)) if is_float(input.dtype) else super().cumprod(input)

    def scan(input: Any, axis: int, combine_fn: Any, reverse: bool = False, **_: Any) -> Any:
        axis = _plain(axis)
        rank = len((input[0] if isinstance(input, tuple) else input).shape)
        return Scan(axis + rank if axis < 0 else axis, combine_fn, _plain(reverse)).apply(input)

    return scan


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, tl.constexpr) else value
