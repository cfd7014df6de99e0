"""The launches of somebody else's call: its autotuned kernels, their keys and their configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch

HEADS = (4, 8, 16, 32)
BATCHES = (1, 2, 4, 8)
TOKENS = (2048, 8192, 32768)
"""Calls whose keys are written. A program compiled for one is taken for those that differ in these alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchChoice:
    """One configuration of a kernel: block sizes, warps, stages, clusters of programs, and the most registers of a thread."""

    kwargs: tuple[tuple[str, int], ...]
    num_warps: int
    num_stages: int
    num_ctas: int
    maxnreg: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedKernel:
    """One autotuned kernel of a call: its key, and its launch in each configuration that it is offered in.

    order: which of the call's launches with autotuning it is, so that calls that differ in size alone can be matched.
    """

    kernel: str
    order: int
    key: tuple[Any, ...]
    launches: dict[LaunchChoice, Launch]


@contextmanager
def launches_noted(note: Callable[[Launch], object]) -> Iterator[None]:
    """Within, launches are noted instead of made."""
    from triton.runtime.jit import JITFunction

    from ...kernels.launches.compile import Launch

    original = JITFunction.run

    def run(self: Any, *args: Any, grid: Any, warmup: bool = False, **kwargs: Any) -> None:
        names = {parameter.name for parameter in self.params}
        arguments = {p.name: p.default for p in self.params if p.has_default}
        arguments |= dict(zip((parameter.name for parameter in self.params), args, strict=False))
        arguments |= {name: value for name, value in kwargs.items() if name in names}
        options = {name: value for name, value in kwargs.items() if name not in names}
        size: Any = grid(arguments) if callable(grid) else grid
        note(Launch(kernel=self, arguments=arguments, grid=tuple(map(int, size)), options=options))

    JITFunction.run = run  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield
    finally:
        JITFunction.run = original
