"""Which kernels a call launches and, if asked for, how long each of them runs by CUDA events of its own."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from triton.runtime.jit import JITFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A launch. kernel: as Triton compiled it. begin, end: events around it, None where none were asked for."""

    name: str
    kernel: Any
    grid: tuple[int, ...]
    begin: Any = None
    end: Any = None

    @property
    def milliseconds(self) -> float:
        """Once the device is done."""
        return self.begin.elapsed_time(self.end)


@contextmanager
def launches(*, events: bool = False) -> Iterator[list[Seen]]:
    """The launches made within, from whatever thread: a backward pass has its own."""
    seen: list[Seen] = []
    run = JITFunction.run

    def watched(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> Any:
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2)) if events else (None, None)
        if begin is not None:
            begin.record()
        kernel = run(self, *args, grid=grid, warmup=warmup, **kwargs)
        if end is not None:
            end.record()
        sizes = tuple(grid) if isinstance(grid, (tuple, list)) else ()
        seen.append(Seen(name=self.__name__, kernel=kernel, grid=sizes, begin=begin, end=end))
        return kernel

    JITFunction.run = watched  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield seen
    finally:
        JITFunction.run = run
