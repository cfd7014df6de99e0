"""Bounds on a device, where no access can be watched: inputs lie between red zones, and allocations hold NaN."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from .execute import Tensors

ZONE_BYTES = 1 << 18
"""On either side of an input: more than any tile, and a multiple of every alignment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strays:
    """unwritten: wrong NaN by output, since allocations hold it. damaged: inputs in or beside which something was written.

    changed: outputs that depend on the memory beside the inputs.
    """

    unwritten: dict[str, int]
    damaged: tuple[str, ...]
    changed: tuple[str, ...]


def strays(call: Callable[[Tensors], Tensors], made: Tensors, nan_belongs: Callable[[], Tensors]) -> Strays:
    """Call twice; an output that is NaN where it should not be has strayed. made: floating-point inputs.

    nan_belongs: where NaN is right, by output; asked only if there is any. Another call could not tell: its allocations may hold
    NaN that an earlier one left there.
    """
    # Before any call: one that overwrites its inputs would find them overwritten already, and change nothing.
    zoned = {name: _between_zones(tensor) for name, tensor in made.items()}
    before = {name: buffer.clone() for name, (buffer, _) in zoned.items()}
    with _allocations_are_nan():
        poisoned = _nan(call(made))
        beside_nan = _nan(call({name: tensor for name, (_, tensor) in zoned.items()}))
    right = nan_belongs() if any(bool(nan.any()) for nan in poisoned.values()) else {}
    return Strays(
        unwritten=_counts(poisoned, right),
        damaged=tuple(name for name, (buffer, _) in zoned.items() if not _same_bits(buffer, before[name])),
        changed=tuple(_counts(beside_nan, poisoned)),
    )


@contextmanager
def _allocations_are_nan() -> Iterator[None]:
    """Fill torch's allocations with NaN; torch does so only while its algorithms are deterministic."""
    settings: Any = torch.utils.deterministic
    fill = settings.fill_uninitialized_memory
    was, only_warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    torch.use_deterministic_algorithms(True, warn_only=True)
    settings.fill_uninitialized_memory = True
    try:
        yield
    finally:
        settings.fill_uninitialized_memory = fill
        torch.use_deterministic_algorithms(was, warn_only=only_warned)


def _between_zones(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """A buffer of NaN, and the tensor's values in the middle of it, in its strides and alignment."""
    zone = ZONE_BYTES // tensor.element_size()
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    extent = extent if tensor.numel() else 0
    start = zone + tensor.storage_offset() % zone
    buffer = torch.full([start + extent + zone], float("nan"), dtype=tensor.dtype, device=tensor.device)
    view = buffer.as_strided(tensor.shape, tensor.stride(), start)
    view.copy_(tensor)
    return buffer, view


def _same_bits(buffer: torch.Tensor, before: torch.Tensor) -> bool:
    return torch.equal(buffer.view(torch.uint8), before.view(torch.uint8))


def _nan(outputs: Tensors) -> Tensors:
    return {name: tensor.isnan() for name, tensor in outputs.items()}


def _counts(nan: Tensors, allowed: Tensors) -> dict[str, int]:
    """How many elements are NaN that may not be, of outputs that have some."""
    counts = {
        name: int((where & ~allowed[name].to(where.device) if name in allowed else where).sum())
        for name, where in nan.items()
    }
    return {name: count for name, count in counts.items() if count}
