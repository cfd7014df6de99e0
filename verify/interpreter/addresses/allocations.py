"""Tensors in red-zoned, poisoned memory, which shows every bit that a kernel leaves unwritten or writes where it must not.

A tensor is placed in a buffer of its own, with `RED_ZONE` bytes on both sides; everything in the buffer that is no
element of the tensor, gaps of strided views included, holds the poison pattern and must keep it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..custom_ops import body
from .memory import patterns, poison_of

RED_ZONE = 4096
"""Bytes on either side of a tensor."""

_UNWRITTEN = frozenset(
    ("empty", "empty_like", "new_empty", "empty_strided", "new_empty_strided", "empty_permuted", "empty_quantized")
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A tensor in its red-zoned buffer. before: its bit patterns where it may not change, else None."""

    name: str
    tensor: torch.Tensor
    buffer: torch.Tensor
    around: torch.Tensor
    before: torch.Tensor | None

    def damage(self) -> str | None:
        """A message that counts the elements that were overwritten, or None."""
        written = int((patterns(self.buffer)[self.around] != poison_of(self.buffer)).sum())
        if written:
            return f"{self.name}: {written} elements around it were overwritten"
        if self.before is not None:
            changed = int((patterns(self.tensor) != self.before).sum())
            if changed:
                return f"{self.name}: {changed} of its {self.tensor.numel()} elements were modified"
        return None


class Allocations:
    """Every tensor that a session has placed; they live as long as the session does, so that no address comes back."""

    def __init__(self) -> None:
        self._placed: list[Placed] = []

    def guard(self, tensor: torch.Tensor, *, name: str, writable: bool) -> torch.Tensor:
        """A copy in red-zoned memory, with the strides and `requires_grad` of the original."""
        if tensor.device.type != "cpu" or tensor.layout != torch.strided:
            raise ValueError(f"only dense CPU tensors can be guarded, not {tensor.layout} on {tensor.device}")
        source = tensor.detach()
        placed = self._place(source.shape, source.stride(), source.dtype, name)
        _distinct(placed.tensor).copy_(_distinct(source))
        if not writable:
            placed = Placed(name, placed.tensor, placed.buffer, placed.around, patterns(placed.tensor).clone())
        self._placed.append(placed)
        # a view of its own, so that autograd state set by the caller stays off the record
        return placed.tensor.detach().requires_grad_(tensor.requires_grad)

    def fresh(self, tensor: torch.Tensor, *, name: str, poisoned: bool) -> torch.Tensor:
        """A newly made tensor moved to red-zoned memory."""
        placed = self._place(tensor.shape, tensor.stride(), tensor.dtype, name)
        if not poisoned:
            _distinct(placed.tensor).copy_(_distinct(tensor))
        self._placed.append(placed)
        return placed.tensor.detach()

    def damage(self) -> list[str]:
        return [said for placed in self._placed if (said := placed.damage()) is not None]

    def _place(self, shape: torch.Size, stride: tuple[int, ...], dtype: torch.dtype, name: str) -> Placed:
        item = dtype.itemsize
        margin = RED_ZONE // item
        span = 0 if 0 in shape else 1 + sum(step * (size - 1) for step, size in zip(stride, shape, strict=True))
        buffer = torch.empty(margin + span + margin, dtype=dtype)
        patterns(buffer).fill_(poison_of(buffer))
        # At the beginning of a storage: autograd takes it that a tensor which it has made lies there.
        tensor = torch.from_numpy(patterns(buffer).numpy()[margin:]).view(dtype).as_strided(shape, stride)
        around = torch.ones(buffer.shape, dtype=torch.bool)
        _distinct(around.as_strided(shape, stride, margin)).fill_(False)
        return Placed(name, tensor, buffer, around, None)


def unwritten(tensor: torch.Tensor) -> int:
    """How many elements still hold the poison pattern."""
    return int((patterns(tensor.detach()) == poison_of(tensor)).sum())


class PlacedAllocations(TorchDispatchMode):
    """While active, every tensor that torch allocates is placed; a tensor of `torch.empty` and its like is poisoned."""

    def __init__(self, allocations: Allocations) -> None:
        super().__init__()
        self._allocations = allocations

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if custom := body(func):
            with self:
                return custom(*args, **(kwargs or {}))
        out = func(*args, **(kwargs or {}))
        if not isinstance(out, torch.Tensor) or not _placeable(out):
            return out
        inputs = (x for x in torch.utils._pytree.tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor))
        if out.untyped_storage().data_ptr() in {x.untyped_storage().data_ptr() for x in inputs if _placeable(x)}:
            return out
        name = func.overloadpacket.__name__
        return self._allocations.fresh(out, name=f"torch.{name} {tuple(out.shape)}", poisoned=name in _UNWRITTEN)


def _placeable(tensor: torch.Tensor) -> bool:
    return tensor.device.type == "cpu" and tensor.layout == torch.strided and type(tensor) is torch.Tensor


def _distinct(tensor: torch.Tensor) -> torch.Tensor:
    """Without the copies that an expanded axis makes."""
    for axis, (size, stride) in enumerate(zip(tensor.shape, tensor.stride(), strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor
