"""Checks of the contents of arguments, where reading them is free or asked for.

It is free on CPU tensors, and on the CPU copy of cu_seqlens. `check_values` may ask for it everywhere (True), which
synchronises with the device, or nowhere (False). NaN and inf in the data are no error, they propagate:
a NaN in g is not positive.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from numbers import Real
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


def check_contents(
    scale: float | None,
    g: Tensor | None,
    cu_seqlens: Tensor | None,
    cu_seqlens_cpu: Tensor | None,
    T: int,
    *,
    check_values: bool | None,
) -> None:
    """Check values where they may be read. g: log decays, None if there are none yet. T: tokens that boundaries must cover.

    Raises TypeError and ValueError.
    """
    if scale is not None:
        _check_scale(scale)
    if g is not None and any_is("g", g, lambda g: g > 0, check_values):
        raise ValueError(f"g is a log decay, but holds {g[g > 0].max().item():.3g}; accepted: at most 0, -inf included")
    if cu_seqlens is not None:
        check_bounds(cu_seqlens, cu_seqlens_cpu, T, check_values)


def check_bounds(cu_seqlens: Tensor, cu_seqlens_cpu: Tensor | None, T: int, check_values: bool | None) -> None:
    """Check the values of boundaries, and that a copy is one. Raises ValueError."""
    readable = {"cu_seqlens_cpu": cu_seqlens_cpu, "cu_seqlens": cu_seqlens}
    found = {
        n: read(n, x.tolist, check_values) for n, x in readable.items() if x is not None and may_read(x, check_values)
    }
    contents = {name: bounds for name, bounds in found.items() if bounds is not None}
    for name, bounds in contents.items():
        _check_bounds(name, bounds, T)
    if len(contents) == 2 and contents["cu_seqlens_cpu"] != contents["cu_seqlens"]:
        raise ValueError("cu_seqlens_cpu differs from cu_seqlens; accepted: a copy of it")


def _check_bounds(name: str, bounds: list[int], T: int) -> None:
    if bounds[0] != 0 or bounds[-1] != T:
        raise ValueError(f"{name} runs from {bounds[0]} to {bounds[-1]}; accepted: from 0 to T = {T}")
    for i, (start, end) in enumerate(pairwise(bounds)):
        if end < start:
            raise ValueError(f"{name} decreases from {start} to {end} at sequence {i}; accepted: non-decreasing")


def may_read(x: Tensor, check_values: bool | None) -> bool:
    """Whether values may be read: not while a compiler traces the call."""
    wanted = x.is_cpu if check_values is None else check_values
    return wanted and not x.is_meta and not torch.compiler.is_compiling()


def any_is(name: str, x: Tensor, wrong: Callable[[Tensor], Tensor], check_values: bool | None) -> bool:
    """Whether an element of an argument is wrong; False where values may not or cannot be read. Raises as `read` does."""
    return may_read(x, check_values) and bool(read(name, lambda: bool(wrong(x).any()), check_values))


def read(name: str, contents: Callable[[], T], check_values: bool | None) -> T | None:
    """Contents of an argument; None where there are none to be read (vmap, fake tensors, tracing) and nobody insists on them.

    Raises ValueError where somebody does.
    """
    try:
        return contents()
    except RuntimeError:
        if check_values:
            raise ValueError(
                f"{name} has no contents that can be read here, under vmap or a tracer; accepted: check_values=False, or None"
            ) from None
        return None


def _check_scale(scale: float) -> None:
    if isinstance(scale, bool) or not isinstance(scale, Real):
        raise TypeError(f"scale is of type {type(scale).__name__}; accepted: a number or None")
    if not math.isfinite(scale):
        raise ValueError(f"scale is {scale}; accepted: a finite number")
