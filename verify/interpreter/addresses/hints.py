"""A kernel's hints to the compiler about numbers, `tl.multiple_of` and its like, which nothing else checks.

The compiler does not notice a false one: it loads elements in one access because the hint says that they lie side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import triton.language as tl

_WIDEST = 16
"""Elements of the widest access that a compiler makes of a hint: 16 bytes. A hint about more elements has no further effect."""


def not_multiples(x: np.ndarray, values: Sequence[int]) -> int:
    """How many numbers are no multiples although they begin a run of neighbours: the others follow from them."""
    found = 0
    for axis, value in enumerate(values):
        whole = np.atleast_1d(x)
        first = np.ones(whole.shape, dtype=bool)
        if value > 1 and whole.ndim == len(values):
            steps = np.diff(whole.astype(np.int64), axis=axis)
            first[_from(axis, 1, whole.ndim)] = steps != 1
        found += int((first & (whole.astype(np.int64) % value != 0)).sum())
    return found


def not_contiguous(x: np.ndarray, values: Sequence[int]) -> int:
    """How many numbers of a group are not one more than the one before."""
    return _unlike(x, values, 1)


def not_constant(x: np.ndarray, values: Sequence[int]) -> int:
    """How many numbers of a group are not the one before."""
    return _unlike(x, values, 0)


HINTS: dict[str, Callable[[np.ndarray, Sequence[int]], int]] = {
    "multiple_of": not_multiples,
    "max_contiguous": not_contiguous,
    "max_constancy": not_constant,
}
"""Functions of the language -> how many elements they are wrong about."""


def hinting(name: str, original: Callable[..., Any], judge: Callable[[str, int], None]) -> Callable[..., Any]:
    """The function of the language that tells `judge` how many of its numbers a hint is wrong about.

    Pointers are let be: they lie elsewhere on a GPU.
    """

    def call(input: Any, values: Any, **kwargs: Any) -> Any:
        if isinstance(input, tl.tensor) and not input.dtype.scalar.is_ptr():
            given = values if isinstance(values, (list, tuple)) else [values]
            wrong = HINTS[name](input.handle.data, [int(getattr(value, "value", value)) for value in given])
            if wrong:
                judge(name, wrong)
        return original(input, values, **kwargs)

    return call


def _unlike(x: np.ndarray, values: Sequence[int], step: int) -> int:
    found = 0
    for axis, value in enumerate(values):
        group = min(value, _WIDEST)
        if group < 2 or np.ndim(x) != len(values):
            continue
        steps = np.diff(x.astype(np.int64), axis=axis)
        inside = (np.arange(1, x.shape[axis]) % group != 0).reshape([-1 if at == axis else 1 for at in range(x.ndim)])
        found += int(((steps != step) & inside).sum())
    return found


def _from(axis: int, start: int, dimensions: int) -> tuple[slice, ...]:
    return tuple(slice(start, None) if at == axis else slice(None) for at in range(dimensions))
