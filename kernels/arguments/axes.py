"""Checks that every public function shares: tensors whose named axes agree, and choices of the right type."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor


def dense(x: Any) -> bool:
    """Whether it is a tensor with sizes and strides: neither sparse nor nested."""
    return isinstance(x, Tensor) and x.layout == torch.strided and not x.is_nested


def sort_of(x: Any) -> str:
    """The sort of an argument, for an error about it: the dtype of a dense tensor, else its layout or type."""
    if not isinstance(x, Tensor):
        return type(x).__name__
    if x.is_nested:
        return "nested"
    return str(x.dtype).removeprefix("torch.") if dense(x) else str(x.layout)


def check_axes(**arguments: tuple[Any, str]) -> None:
    """Each argument with its axes, "B T H K"; an axis of one name has one size. All must be on the device of the first tensor.

    "B T HV or B T HV K" names alternatives, of which the first also binds sizes, and "None or HV" takes None; "3" is a size, and
    "K/2" half of another. Raises TypeError for anything but a dense tensor of real floating-point numbers, else ValueError.
    """
    sizes: dict[str, int] = {}
    device = None
    for name, (x, axes) in arguments.items():
        forms = axes.split(" or ")
        if x is None and "None" in forms:
            continue
        if not isinstance(x, Tensor):
            raise TypeError(f"{name} is of type {type(x).__name__}; accepted: a tensor {_shown(forms)}")
        if not dense(x) or not x.dtype.is_floating_point:
            raise TypeError(f"{name} is {sort_of(x)}; accepted: dense floating-point numbers")
        device = x.device if device is None else device
        if x.device != device:
            raise ValueError(f"{name} is on {x.device}; accepted: {device}, where {next(iter(arguments))} is")
        form = next((form for form in forms if form != "None" and _fits(x, form.split(), sizes)), None)
        if form is None:
            known = ", ".join(f"{axis} = {size}" for axis, size in sizes.items())
            raise ValueError(
                f"{name} has shape {list(x.shape)}; accepted: {_shown(forms)}{f' with {known}' if known else ''}"
            )
        sizes |= {axis: size for axis, size in zip(form.split(), x.shape, strict=True) if axis.isidentifier()}


def check_flags(**flags: Any) -> None:
    """Raises TypeError for a flag that is neither True nor False: any text would count as True."""
    for name, flag in flags.items():
        if flag is not True and flag is not False:
            raise TypeError(f"{name} is {flag!a:.60}; accepted: True or False")


def check_number(name: str, value: Any, least: float, most: float = math.inf) -> None:
    """Raises TypeError for anything but a real number, ValueError for NaN, infinities and numbers outside the range."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is of type {type(value).__name__}; accepted: a number")
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(f"{name} is {value}; accepted: from {least:g} to {most:g}")


def check_state(name: str, state: Any, kind: type) -> None:
    """Raises TypeError for a state that is neither None nor of the type that an earlier call returns."""
    if state is not None and not isinstance(state, kind):
        raise TypeError(f"{name} is of type {type(state).__name__}; accepted: a {kind.__name__}, or None")


def _fits(x: Tensor, axes: list[str], sizes: dict[str, int]) -> bool:
    return len(axes) == x.dim() and all(
        _expected(axis, sizes, size) == size for axis, size in zip(axes, x.shape, strict=True)
    )


def _expected(axis: str, sizes: dict[str, int], found: int) -> int:
    """The size of an axis, `found` if it is not known yet."""
    if axis.isdigit():
        return int(axis)
    name, _, divisor = axis.partition("/")
    return sizes[name] // int(divisor or 1) if name in sizes else found


def _shown(forms: list[str]) -> str:
    return " or ".join(form if form == "None" else f"[{', '.join(form.split())}]" for form in forms)
