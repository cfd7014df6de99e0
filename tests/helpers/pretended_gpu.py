"""Calls on `meta` tensors, which hold nothing, as on a GPU: what would wait for the device fails."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from triton.runtime.interpreter import InterpretedFunction

from deltaproof.kernels.ops import library
from deltaproof.kernels.ops.operator import OPERATORS

BODIES = {operator.overload: operator.run_values for operator in OPERATORS.values()}
assert library.decode.name in OPERATORS  # they are registered when `library` is imported


class Waited(AssertionError):
    """The host would have waited for the device."""


class Watch(TorchDispatchMode):
    """Runs the bodies of our operators, whose launches do nothing, and refuses what waits for the device.

    made: every operation, in order. indexing: those that computed something from integers on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: list[str] = []
        self.indexing: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in BODIES:
            with self:
                return BODIES[func](*args, **kwargs)
        answer = func(*args, **kwargs)  # raises what depends on contents: there are none
        given, found = (
            [x for x in tree_leaves(one) if isinstance(x, torch.Tensor)] for one in ((args, kwargs), answer)
        )
        if any(x.is_meta for x in given) and any(not x.is_meta for x in found):
            raise Waited(f"{func} brings something back from the device")
        copied = any(not x.is_meta and x.dim() for x in given) and any(x.is_meta for x in found)
        if copied and not kwargs.get("non_blocking"):
            raise Waited(f"{func} takes something to the device, and waits until it is there")
        self.made.append(str(func))
        if func not in _VIEWS and any(x.is_meta and not x.is_floating_point() for x in given):
            self.indexing.append(str(func))
        return answer


_ATEN = torch.ops.aten
_VIEWS = (_ATEN.detach.default, _ATEN.view.default, _ATEN.alias.default, _ATEN.slice.Tensor, _ATEN.unbind.int)


@contextmanager
def pretended_gpu() -> Iterator[Watch]:
    """Inside, every variant of our ops runs on `meta` tensors, up to its launches."""
    with mock.patch.object(InterpretedFunction, "run", return_value=None), Watch() as watch:
        yield watch
