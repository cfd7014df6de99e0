"""A single Triton kernel with a reference of its own: a `Stage` is a target, as what `adapt` makes of a whole function is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A function that launches a kernel or a few, what they should compute, and the calls to try. Raises TypeError.

    run: makes its outputs, launches, and returns a tensor, a tuple of tensors or a mapping of names to tensors. It leaves its
        arguments as they are.
    reference: the same in plain torch, without Triton, from the same arguments. It is run in fp64 and over a finite field, so
        that it may be written for any dtype.
    draw: keyword arguments of one call, from a numpy Generator: dense tensors on the CPU, and anything that holds no tensor.
        It should vary the shapes and dtypes, and reach the edges of tiles. A call without an element of output counts for
        nothing unless it fails. Over the field, elements of its tensors are drawn anew, but for 0, 1 and -inf.
    """

    run: Callable[..., Any]
    reference: Callable[..., Any]
    draw: Callable[[np.random.Generator], Mapping[str, Any]]

    def __post_init__(self) -> None:
        for name in ("run", "reference", "draw"):
            if not callable(given := getattr(self, name)):
                raise TypeError(f"Stage: {name} is {given!r:.60}; accepted: a function")
