"""Calls that were checked once and found right: a decoding loop makes the same call thousands of times."""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor

Found = TypeVar("Found")
_MOST = 1024


def facts(*tensors: Tensor | None) -> tuple[Any, ...] | None:
    """All of each tensor but its contents and strides, to know a call again; None where something is no tensor."""
    if torch.compiler.is_compiling():
        return None
    try:
        return tuple([None if x is None else (x.shape, x.dtype, x.device, x.layout) for x in tensors])
    except (AttributeError, RuntimeError):  # a nested tensor has no shape
        return None


class SeenCalls(Generic[Found]):
    """Results of the checks of calls, by the facts that decide them. A key of None, or one that holds symbols, is never kept."""

    def __init__(self) -> None:
        self._kept: dict[Any, Found] = {}

    def get(self, key: Any) -> Found | None:
        """The result for an equal call before, or None."""
        try:
            return None if key is None else self._kept.get(key)
        except TypeError:  # sizes that are symbols
            return None

    def put(self, key: Any, found: Found) -> None:
        """Keep it; when too many are kept, begin again."""
        if key is None:
            return
        if len(self._kept) >= _MOST:
            self._kept.clear()
        with suppress(TypeError):
            self._kept[key] = found
