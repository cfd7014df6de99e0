"""Tensor descriptors that the host makes, as the engine keeps them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

from .device import DeviceLaunch
from .machine import Argument, Pointer, address_of


def descriptor_arguments(
    launch: DeviceLaunch, kind: str, value: Any, place: Callable[[Any], Pointer], number: int
) -> list[Argument]:
    """The arguments that Triton's launcher passes for one descriptor. number: among the kernel's descriptors."""
    found = getattr(launch.kernel.metadata, "tensordesc_meta", None)
    shape, strides = [int(size) for size in value.shape], [int(stride) for stride in value.strides]
    pointer = place(value.base)
    if not found or found[number] is None:
        padded, rounded = value.padding == "nan", getattr(value, "round_f32_to_tf32", False)
        return [pointer, *shape, *strides, int(padded), int(rounded), *shape, *strides]
    return [_map(found[number], address_of(pointer), shape, strides, value.padding == "nan"), *shape, *strides]


def _map(about: Any, address: int, shape: list[int], strides: list[int], padded: bool) -> bytes:
    """128 bytes; native/bulk.h has the same fields. The innermost dimension comes first."""
    about = about if isinstance(about, dict) else about._asdict()
    box, rank = [int(size) for size in about["block_size"]], len(shape)

    def five(values: list[int]) -> list[int]:
        return [*reversed(values), *[1] * (5 - rank)]

    steps = [int(about["elem_size"]) * stride for stride in reversed(strides[:-1])]
    packed = struct.pack(
        "<Q5i5i5i5i4q", address, rank - 1, int(about["elem_type"]), 0, int(about["swizzle"]), int(padded),
        *five(box), *five(shape), *[1] * 5, *steps, *[0] * (5 - rank),
    )  # fmt: skip
    return packed.ljust(128, b"\0")
