"""Tensors larger than the memory there is, for runs that need addresses and no contents: of them torch computes nothing."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from ..custom_ops import body

HUGE = 2**26
"""Elements from which on a tensor is only reserved."""

_CREATING = frozenset(("empty", "new_empty", "zeros", "new_zeros", "ones", "new_ones", "full", "new_full"))


def reserved(shape: Sequence[int], dtype: torch.dtype, stride: Sequence[int] | None = None) -> torch.Tensor:
    """A tensor in address space alone: no page of it exists before it is touched."""
    steps = torch.empty(shape, device="meta").stride() if stride is None else stride
    span = 1 + sum(step * (size - 1) for size, step in zip(shape, steps, strict=True)) if prod(shape) else 0
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0x4000)
    room = mmap.mmap(-1, max(1, span * dtype.itemsize), flags=flags)
    return torch.frombuffer(room, dtype=torch.uint8)[: span * dtype.itemsize].view(dtype).as_strided(shape, steps)


class Unfilled(TorchDispatchMode):
    """While active, a huge tensor of floats that torch makes is reserved, and nothing is written to one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if custom := body(func):
            with self:
                return custom(*args, **kwargs)
        huge = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor) and x.numel() >= HUGE]
        aliases = [value.alias_info for value in func._schema.returns if value.alias_info is not None]
        if any(alias.is_write for alias in aliases) and isinstance(args[0], torch.Tensor):
            return args[0] if args[0].numel() >= HUGE else func(*args, **kwargs)
        if aliases or not (huge or _creates(func, args)):
            return func(*args, **kwargs)
        shapes = tree_map_only(torch.Tensor, lambda x: x.to("meta"), (args, {**kwargs, **_on_meta(kwargs)}))
        made = func(*shapes[0], **shapes[1])
        if not isinstance(made, torch.Tensor) or made.numel() < HUGE or not made.is_floating_point():
            return func(*args, **kwargs)
        return reserved(made.shape, made.dtype, made.stride())


def _creates(func: Any, args: tuple[Any, ...]) -> bool:
    sizes = next((x for x in args if isinstance(x, list | tuple)), ())
    return func.overloadpacket.__name__ in _CREATING and prod(sizes) >= HUGE


def _on_meta(kwargs: dict[str, Any]) -> dict[str, Any]:
    return {"device": torch.device("meta")} if "device" in kwargs else {}
