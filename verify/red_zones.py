"""Bounds on a device, where no access can be watched: inputs lie between red zones, and what is allocated holds NaN."""

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
    """unwritten: elements of each output that nothing was written to. damaged: inputs beside which something was written.

    changed: outputs that depend on what lies beside the inputs.
    """

    unwritten: dict[str, int]
    damaged: tuple[str, ...]
    changed: tuple[str, ...]


def strays(call: Callable[[Tensors], Tensors], made: Tensors) -> Strays:
    """Call three times; what becomes NaN that was not strayed. made: floating-point inputs."""
    plain = call(made)
    with _allocations_are_nan():
        poisoned = call(made)
    zoned = {name: _between_zones(tensor) for name, tensor in made.items()}
    outputs = call({name: tensor for name, (_, tensor) in zoned.items()})
    return Strays(
        unwritten=_became_nan(plain, poisoned),
        damaged=tuple(name for name, (buffer, _) in zoned.items() if not _zones_are_whole(buffer)),
        changed=tuple(_became_nan(plain, outputs)),
    )


@contextmanager
def _allocations_are_nan() -> Iterator[None]:
    """torch fills what it allocates only while its algorithms are deterministic."""
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
    """A buffer of NaN, and the tensor's values in the middle of it, in its strides."""
    zone = ZONE_BYTES // tensor.element_size()
    extent = 1 + sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True))
    extent = extent if tensor.numel() else 0
    buffer = torch.full([extent + 2 * zone], float("nan"), dtype=tensor.dtype, device=tensor.device)
    view = buffer.as_strided(tensor.shape, tensor.stride(), zone)
    view.copy_(tensor)
    return buffer, view


def _zones_are_whole(buffer: torch.Tensor) -> bool:
    zone = ZONE_BYTES // buffer.element_size()
    return bool(buffer[:zone].isnan().all() and buffer[buffer.numel() - zone :].isnan().all())


def _became_nan(before: Tensors, after: Tensors) -> dict[str, int]:
    """How many elements, of outputs that have some. Bits may differ: not every kernel adds up in one order."""
    counts = {name: int((after[name].isnan() & ~tensor.isnan()).sum()) for name, tensor in before.items()}
    return {name: count for name, count in counts.items() if count}
