"""Which memory a kernel may touch: exactly the elements of the tensors it was launched with.

An access is checked against the tensors, as views, of the running launch: neither the padding inside a storage, nor the gaps of a
strided view, nor another live tensor is fair game. An access out of bounds is recorded and masked off, so that even an address
far away does not end the process. An element that nothing has written may not be read, and no two programs may race on an
element.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter

from ..records import Place, kernel_place
from .races import Touched
from .threads import Kept, Turns

Kind = Literal["load", "store", "atomic", "multiple_of", "max_contiguous", "max_constancy"]
Fault = Literal["out of bounds", "never written", "race", "no barrier", "false hint"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryFault:
    """Accesses of one sort by one source line of one kernel that it must not make.

    fault: "out of bounds"; "never written", a load of an element that still has the contents of its allocation; "race", an
    element that another program of the launch writes, or reads before it is changed here; "no barrier", an element that another
    thread of the same program has stored and that no barrier orders; or "false hint", a statement about numbers that the kernel
    makes to the compiler and that is not true.
    file, line: of the load or store. program: of the first fault. count: elements, over all programs.
    distance: of the farthest one, in bytes from the nearest tensor of the launch (0 in a gap of a strided view).
    """

    fault: Fault
    kind: Kind
    kernel: str
    file: str
    line: int
    program: tuple[int, int, int]
    count: int
    distance: int

    def __str__(self) -> str:
        elements = "1 element" if self.count == 1 else f"{self.count} elements"
        what = {
            "out of bounds": f"out of bounds, up to {self.distance} bytes away,",
            "never written": "that nothing has written,",
            "race": "that another program of the same launch writes, or reads before,",
            "false hint": "of which it is not so",
            "no barrier": "that other threads of the program stored, with no tl.debug_barrier() between,",
        }[self.fault]
        where = f"first by program {self.program} of {self.kernel} at {self.file}:{self.line}"
        return f"{self.kind} of {elements} {what} {where}"


@dataclass(frozen=True, slots=True)
class Region:
    """The bytes of one tensor. axes: (stride in bytes, size), largest stride first; empty for a contiguous tensor.

    fresh: some elements were never written when the launch began.
    """

    start: int
    end: int
    axes: tuple[tuple[int, int], ...]
    fresh: bool = False

    @classmethod
    def of(cls, tensor: torch.Tensor, *, contents: bool = True) -> Region:
        """The memory of a tensor; `fresh` is left False unless its contents may be looked at."""
        # A byte of data may well be the poison; a wider element is not, but by design.
        fresh = contents and tensor.element_size() > 1 and bool((patterns(tensor) == poison_of(tensor)).any())
        return replace(cls._span(tensor), fresh=fresh)

    @classmethod
    def _span(cls, tensor: torch.Tensor) -> Region:
        item, start = tensor.element_size(), tensor.data_ptr()
        if tensor.numel() == 0:
            return cls(start, start, ())
        axes = sorted(
            (
                (stride * item, size)
                for stride, size in zip(tensor.stride(), tensor.shape, strict=True)
                if size > 1 and stride
            ),
            reverse=True,
        )
        end = start + sum(stride * (size - 1) for stride, size in axes) + item
        inner = item
        for stride, size in reversed(axes):
            if stride < inner:  # axes overlap: all of the span counts as inside
                return cls(start, end, ())
            inner = stride * size
        dense = end - start == item * int(np.prod([size for _, size in axes], dtype=np.int64))
        return cls(start, end, () if dense else tuple(axes))

    def contains(self, addresses: np.ndarray, item: int) -> np.ndarray:
        """The accesses of `item` bytes at these addresses (uint64) that touch elements of the tensor only."""
        offsets = addresses.astype(np.int64) - self.start
        inside = (offsets >= 0) & (offsets <= self.end - self.start - item)
        for stride, size in self.axes:
            index = offsets // stride
            inside &= index < size
            offsets = offsets - index * stride
        return inside & (offsets == 0) if self.axes else inside


class Memory:
    """The memory check of a session.

    races: look for elements that several programs, or threads of one, touch, too. contents: look at the contents of tensors, too;
    addresses alone do not need them.
    """

    def __init__(self, *, races: bool = False, contents: bool = True) -> None:
        self._faults: dict[tuple[Fault, Kind, str, Place], MemoryFault] = {}
        self._kernel = "?"
        self._regions: list[Region] = []
        self._races = races
        self.contents = contents
        self._touched: dict[int, Touched] = {}
        self._kept: dict[int, Kept] = {}
        self._turns = Turns()

    @property
    def faults(self) -> list[MemoryFault]:
        return list(self._faults.values())

    def begin(self, kernel: str, tensors: list[torch.Tensor], warps: int = 1) -> None:
        """A launch with these tensors begins; its programs have so many warps."""
        self._kernel = kernel
        self._regions = [Region.of(tensor, contents=self.contents) for tensor in tensors]
        self._touched.clear()
        self._kept.clear()
        self._turns.warps = warps

    def barrier(self) -> None:
        """The running program is at `tl.debug_barrier()`."""
        self._turns.barrier()

    def hint(self, name: Any, wrong: int) -> None:
        """A hint of this name is wrong about so many numbers."""
        self._record("false hint", name, np.zeros(wrong, dtype=np.uint64), 1)

    def admit(self, kind: Kind, addresses: np.ndarray, mask: np.ndarray, dtype: tl.dtype) -> np.ndarray:
        """`mask` without the accesses that are out of bounds, which are recorded."""
        on = mask if mask.shape == addresses.shape else np.broadcast_to(mask, addresses.shape)
        active = addresses if on.all() else addresses[on]
        if not active.size:
            return mask
        item = max(1, dtype.primitive_bitwidth // 8)
        low, high = int(active.min()), int(active.max()) + item
        for place, region in enumerate(self._regions):
            if region.start <= low and high <= region.end and (not region.axes or region.contains(active, item).all()):
                self._regions.insert(0, self._regions.pop(place))  # a kernel often comes back to the same tensor
                if kind == "load":
                    self._watch_load(region, addresses, on, item)
                return mask
        inside = np.zeros(addresses.shape, dtype=bool)
        for region in self._regions:
            here = region.contains(addresses, item)
            if kind == "load" and (here & on).any():
                self._watch_load(region, addresses, here & on, item)
            inside |= here
        bad = on & ~inside
        if bad.any():
            self._record("out of bounds", kind, addresses[bad], item)
        return on & inside

    @contextlib.contextmanager
    def storing(self, addresses: np.ndarray, mask: np.ndarray, dtype: tl.dtype) -> Iterator[None]:
        """Around a store whose `mask` was admitted: note which program writes each element, and which elements change."""
        if not self._races:
            yield
            return
        item, program = max(1, dtype.primitive_bitwidth // 8), _program()
        on = np.broadcast_to(mask, addresses.shape)
        places = [(region, on & region.contains(addresses, item)) for region in self._regions]
        before = [
            (region, here, addresses[here], _bits(addresses[here], item)) for region, here in places if here.any()
        ]
        yield
        for region, here, at, old in before:
            touched, index = self._touched_of(region, item), self._index(region, at, item)
            changed = _bits(at, item) != old
            raced = touched.contested(index, program) & changed
            if raced.any():
                self._record("race", "store", at[raced], item)
            touched.store(index, program, changed)
            self._watch_threads("store", region, here, at, index, item, changed)

    def _watch_load(self, region: Region, addresses: np.ndarray, on: np.ndarray, item: int) -> None:
        """A load of elements of a region: that nothing has written, or that another program has, or another thread?"""
        if not (region.fresh or self._races):
            return
        at = addresses[on]
        if region.fresh:
            unwritten = _bits(at, item) == POISON[item]
            if unwritten.any():
                self._record("never written", "load", at[unwritten], item)
        if self._races:
            index = self._index(region, at, item)
            raced = self._touched_of(region, item).load(index, _program())
            if raced.any():
                self._record("race", "load", at[raced], item)
            self._watch_threads("load", region, on, at, index, item)

    def _watch_threads(
        self, kind: Kind, region: Region, on: np.ndarray, at: np.ndarray, index: np.ndarray, item: int,
        changed: np.ndarray | None = None,
    ) -> None:  # fmt: skip
        """A load or store, where `on`, of elements that other threads of the program have stored since the last barrier?

        changed: the elements of which a store changes the bits; the others keep their bits in any order.
        """
        if self._turns.warps == 1:
            return  # threads of a warp are as far as one another
        kept = self._kept.get(region.start)
        self._turns.begin(_program())
        if kept is None and changed is None:
            return
        if kept is None:
            kept = self._kept[region.start] = Kept((region.end - region.start) // item + 1)
        recent = kept.recent(index, self._turns.now)
        if changed is not None:
            recent &= changed
        elif not recent.any():
            return
        places = self._turns.places(on.shape, np.flatnonzero(on))
        astray = recent & kept.foreign(index, places)
        if astray.any():
            self._record("no barrier", kind, at[astray], item)
        if changed is not None:
            kept.store(index[changed], self._turns.now, places[changed])

    def _touched_of(self, region: Region, item: int) -> Touched:
        if region.start not in self._touched:
            self._touched[region.start] = Touched((region.end - region.start) // item + 1)
        return self._touched[region.start]

    def _index(self, region: Region, addresses: np.ndarray, item: int) -> np.ndarray:
        """Elements of a region, counted from its start in steps of `item` bytes."""
        return (addresses.astype(np.int64) - region.start) // item

    def undefined(self, shape: tuple[int, ...], dtype: tl.dtype) -> np.ndarray:
        """The value of a masked load without `other` where the mask is off: it is undefined, so poison."""
        held = triton_interpreter._get_np_dtype(dtype)
        if held.kind == "b":
            return np.ones(shape, dtype=bool)
        # one off, so that a NaN from here that ends up in memory is not taken for memory never written
        pattern = (POISON[held.itemsize] - 1).to_bytes(held.itemsize, "little")
        return np.broadcast_to(np.frombuffer(pattern, dtype=held), shape).copy()

    def _record(self, what: Fault, kind: Kind, addresses: np.ndarray, item: int) -> None:
        at = addresses.astype(np.float64)  # addresses far out do not fit a difference of int64
        short = [np.maximum(region.start - at, at + item - region.end) for region in self._regions]
        distance = int(np.min(short, axis=0).max(initial=0)) if short else 0
        file, line = kernel_place()
        fault = MemoryFault(
            fault=what,
            kind=kind,
            kernel=self._kernel,
            file=file,
            line=line,
            program=triton_interpreter.interpreter_builder.grid_idx,
            count=len(addresses),
            distance=distance,
        )
        key = (what, kind, self._kernel, (file, line))
        known = self._faults.get(key)
        if known is not None:  # from another program, or another launch
            fault = replace(
                fault,
                program=min(known.program, fault.program),
                count=known.count + fault.count,
                distance=max(known.distance, fault.distance),
            )
        self._faults[key] = fault


def _program() -> int:
    """The number of the running program."""
    builder: Any = triton_interpreter.interpreter_builder
    (x, y, z), (width, height, _) = builder.grid_idx, builder.grid_dim
    return x + width * (y + height * z)


def _bits(addresses: np.ndarray, item: int) -> np.ndarray:
    """The bit patterns that memory holds at addresses in bounds."""
    held = np.dtype(f"u{item}")
    on = np.ones(addresses.shape, dtype=bool)
    return triton_interpreter._interpreter.load(addresses, on, np.zeros(addresses.shape, dtype=held), held)


POISON: dict[int, int] = {1: 0xA5, 2: 0xFFEF, 4: 0xFFC0BEEF, 8: 0xFFF8BEEFFFC0BEEF}
"""Bit patterns by element size that memory holds before it is written: NaN in every float format, a wild negative
number in integers, and no payload of the exact mode."""


def patterns(tensor: torch.Tensor) -> torch.Tensor:
    """The elements of a tensor as signed integers of their size."""
    return tensor.view({1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()])


def poison_of(tensor: torch.Tensor) -> int:
    """The poison pattern of a tensor as a signed integer, to compare with `patterns`."""
    bits = 8 * tensor.element_size()
    return POISON[tensor.element_size()] - (1 << bits)
