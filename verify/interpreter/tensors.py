"""Exact arithmetic in torch: operations of host code on payload tensors between two kernels, autograd's additions included.

float32 tensors carry payloads, and so do the float64 tensors that are made of them. Operators that only move elements run
as they are, those with a formula run in the field, and anything else is recorded as unsupported and gives OUTSIDE.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ...specs.arithmetic import field
from ...specs.arithmetic.field import OUTSIDE, FieldArray
from .addresses.memory import patterns
from .arithmetic.payloads import CARRIERS, field_array, payload_tensor
from .arithmetic.shadow import Shadow
from .arithmetic.tensor_formulas import FORMULAS, INDEXING
from .custom_ops import body
from .records import Records, host_place

MOVING = frozenset(
    """
    _reshape_alias _to_copy _unsafe_index _unsafe_masked_index _unsafe_view alias alias_copy as_strided cat chunk clone
    constant_pad_nd contiguous copy_ detach diagonal empty empty_like empty_permuted empty_strided expand flip gather
    index index_put_ index_select lift_fresh masked_select narrow new_empty new_empty_strided new_zeros permute repeat
    resize_ roll rot90 scatter select select_backward select_scatter set_ slice slice_backward slice_scatter split
    split_with_sizes squeeze stack t take_along_dim transpose tril triu unbind unflatten unfold unsqueeze view view_copy
    where zero_ zeros zeros_like
    """.split()  # noqa: SIM905 - a list of words is no easier to read one per line
)
"""Operators that move elements, or make zeros."""

_FILLING = {
    "full": 1,
    "full_like": 1,
    "new_full": 2,
    "ones": None,
    "ones_like": None,
    "new_ones": None,
    "fill": 1,
    "fill_": 1,
    "masked_fill": 2,
    "masked_fill_": 2,
    "scalar_tensor": 0,
    "eye": None,
}
"""Operators that write a number, which must be embedded: the place of the number among the arguments, None for 1."""

_HALVES = (torch.float16, torch.bfloat16)


class ExactTensors(TorchDispatchMode):
    """The torch side of an exact session."""

    def __init__(self, records: Records, shadow: Shadow) -> None:
        super().__init__()
        self._records = records
        self._shadow = shadow

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if custom := body(func):
            with self:
                return custom(*args, **kwargs)
        name = func.overloadpacket.__name__
        if name in _FILLING:
            return self._fill(func, name, args, kwargs)
        if name == "lift_fresh" and args[0].dtype in CARRIERS:
            # `torch.tensor(numbers)`: floats that host code writes down.
            return payload_tensor(field.FIELD.array(args[0].numpy()), args[0].dtype)
        if name == "_to_copy" and _converts(args[0].dtype, kwargs.get("dtype")):
            return self._converted(args[0], kwargs["dtype"])
        if name == "copy_" and _converts(args[1].dtype, args[0].dtype):
            return self._copy(args[0], self._converted(args[1], args[0].dtype))
        floats = [x for x in tree_leaves((args, kwargs)) if _is_float(x)]
        if name in MOVING and not _writes_number(func, args, kwargs):
            return func(*args, **kwargs)
        if not floats:
            out = func(*args, **kwargs)
            # floats out of nothing, random numbers say, are no payloads
            return self._lose(name, out) if any(map(_is_float, tree_leaves(out))) else out
        in_place = name.endswith("_") and name[:-1] in FORMULAS
        formula = name[:-1] if in_place else name
        target = args[0] if in_place else kwargs.get("out")
        dtype = kwargs.get("dtype") or (_common(floats) if target is None else target.dtype)
        exact = all(x.dtype in CARRIERS for x in floats) and dtype in CARRIERS
        result = self._compute(formula, args, kwargs, dtype) if exact else None
        if result is None:
            return self._lose(name, func(*args, **kwargs))
        return torch.empty_like(result).copy_(result) if target is None else target.copy_(result)

    def _compute(self, name: str, args: Any, kwargs: Any, dtype: torch.dtype) -> torch.Tensor | None:
        """The result of an operator in the field, or None where the field has none."""
        if name not in FORMULAS:
            return None
        operand = _value if name in INDEXING else _operand
        named = {key: operand(value) for key, value in kwargs.items() if key not in ("dtype", "out")}
        try:
            return payload_tensor(FORMULAS[name](*map(operand, args), **named), dtype)
        except NotImplementedError:
            return None

    def _fill(self, func: Any, name: str, args: Any, kwargs: Any) -> Any:
        out = func(*args, **kwargs)
        value = _number(name, args, kwargs)
        if not _is_float(out) or isinstance(value, torch.Tensor):
            return out
        if out.dtype not in CARRIERS:
            return self._lose(name, out)
        bits = _pattern(field.constant_bits(float(value)), out.dtype)
        if name == "eye":
            patterns(out).mul_(0).fill_diagonal_(bits)
        elif name.startswith("masked"):
            patterns(out).masked_fill_(args[1], bits)
        else:
            patterns(out).fill_(bits)
        return out

    def _converted(self, source: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        """The tensor that a change of type gives; payloads of 16-bit tensors are kept beside them."""
        if source.dtype in _HALVES:
            bits, complete = self._shadow.load(Shadow.addresses(source))
            if not complete:
                self._records.add_unsupported(f"torch conversion from {source.dtype}", host_place())
            values = FieldArray(bits)
        elif source.dtype in CARRIERS:
            values = field_array(source)
        else:
            values = field.integers(source.numpy())
        if dtype in CARRIERS:
            return torch.empty(source.shape, dtype=dtype).copy_(payload_tensor(values, dtype))
        if dtype not in _HALVES:
            return self._lose("conversion", source.to(dtype))
        if source.dtype in CARRIERS:
            self._records.add_narrowing(host_place())
        out = torch.full(source.shape, torch.nan, dtype=dtype)
        self._shadow.store(Shadow.addresses(out), values.bits)
        return out

    def _copy(self, target: torch.Tensor, source: torch.Tensor) -> torch.Tensor:
        if source.dtype in _HALVES:
            source = source.expand(target.shape)
            self._shadow.store(Shadow.addresses(target), self._shadow.load(Shadow.addresses(source))[0])
        return target.copy_(source)

    def _lose(self, name: str, out: Any) -> Any:
        self._records.add_unsupported(f"torch.{name}", host_place())
        for tensor in filter(_is_float, tree_leaves(out)):
            if tensor.dtype in CARRIERS:
                patterns(tensor).fill_(_pattern(OUTSIDE, tensor.dtype))
            else:
                tensor.fill_(torch.nan)
        return out


def _is_float(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.is_floating_point()


def _pattern(payload: np.uint32, dtype: torch.dtype) -> int:
    """A payload as the signed integer of the size of a float that carries it."""
    return int(payload) if dtype == torch.float64 else int(payload.view(np.int32))


def _common(floats: list[torch.Tensor]) -> torch.dtype:
    """The type of a result: a float64 counts, but as a scalar among tensors."""
    counted = [x for x in floats if x.dim()] or floats
    return torch.float64 if any(x.dtype == torch.float64 for x in counted) else torch.float32


def _converts(source: torch.dtype, target: torch.dtype | None) -> bool:
    return target is not None and source != target and (source.is_floating_point or target.is_floating_point)


def _number(name: str, args: Any, kwargs: Any) -> Any:
    """The number that an operator of `_FILLING` writes; it may be a tensor of one element."""
    place = _FILLING[name]
    if place is None:
        return 1
    return args[place] if place < len(args) else kwargs.get("fill_value", kwargs.get("value"))


def _writes_number(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an operator that moves elements also writes a number other than 0, or adds."""
    name = func.overloadpacket.__name__
    if name == "constant_pad_nd":
        return bool(args[2] if len(args) > 2 else kwargs.get("value", 0))
    if name == "index_put_":
        return bool(args[3] if len(args) > 3 else kwargs.get("accumulate", False))
    return func._overloadname in ("value", "value_out")


def _operand(value: Any) -> Any:
    """An argument of an operator as the field takes it; numbers are embedded by FieldArray itself."""
    if isinstance(value, torch.Tensor) and not value.is_floating_point():
        return field.integers(value.numpy())
    return _value(value)


def _value(value: Any) -> Any:
    return field_array(value) if _is_float(value) else value
