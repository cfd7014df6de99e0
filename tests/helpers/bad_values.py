"""Arguments that no function of ours takes, made from right ones and from what a parameter is annotated with."""

from __future__ import annotations

import enum
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor


class Odd(enum.Enum):
    """Somebody else's constant."""

    one = 1


ANYTHING = (
    object(),
    Odd.one,
    b"bytes",
    1j,
    {"a": 1},
    [None],
    max,
    float("nan"),
    float("inf"),
    -7,
    2**70,
    "nosuch",
    "",
)
"""Not one of them is a value for any parameter, but where its annotation says that it may be a number or a text."""


def bad_tensors(right: Tensor) -> Iterator[tuple[str, Any]]:
    """A tensor that is wrong in rank, size, dtype, device, layout; and what is no tensor."""
    yield "one axis more", right[..., None, None]
    yield "a scalar", right.sum()
    if right.dim():
        yield "one axis less", right.select(0, 0)
    for axis in range(right.dim()):
        yield f"axis {axis} longer by 3", torch.cat([right] + [right.narrow(axis, 0, 1)] * 3, axis)
    yield "bool", right > 0
    yield "complex", right.to(torch.complex64)
    yield "int8", right.to(torch.int8)
    yield "on meta", right.to("meta")
    yield "sparse", right.to_sparse()
    yield "nested", torch.nested.nested_tensor([right])
    yield "numpy", right.detach().numpy()
    yield "a list", right.tolist()


def bad_arguments(function: Callable[..., Any], right: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """A parameter, what is wrong with it, and the arguments with it; each parameter of the function in its turn.

    So are right arguments that the signature does not name.
    """
    parameters = dict(inspect.signature(function).parameters)
    further = {name for name, parameter in parameters.items() if parameter.kind == inspect.Parameter.VAR_KEYWORD}
    if further:
        parameters |= {
            name: inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=type(value).__name__)
            for name, value in right.items()
            if name not in parameters
        }
    for name, parameter in parameters.items():
        if name in further or parameter.kind == inspect.Parameter.VAR_POSITIONAL:
            continue
        value = right.get(name)
        for what, wrong in bad_tensors(value) if isinstance(value, Tensor) else ():
            yield name, what, {**right, name: wrong}
        for wrong in ANYTHING:
            if not _may_be(wrong, str(parameter.annotation)):
                yield name, repr(wrong)[:30], {**right, name: wrong}
        if parameter.default is inspect.Parameter.empty and name in right:
            yield name, "None", {**right, name: None}


def _may_be(value: Any, annotation: str) -> bool:
    """Whether a value is one that an annotation allows, as far as types say."""
    words = set(annotation.replace("|", " ").split())
    if isinstance(value, float):
        return value == -7
    if isinstance(value, int):
        return "float" in words
    return False
