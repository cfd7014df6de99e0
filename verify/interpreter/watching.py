"""Look at every launch of the sessions that run meanwhile: the tensors before it, and the tensors after it.

A judge of a single stage needs the tensors at its boundary, and runs code, a property say, that opens sessions of its own. So the
observer is not an argument of a session but is in force for a while.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils._python_dispatch import _disable_current_modes

from .addresses.memory import Memory, MemoryFault
from .launch import CheckedLaunch


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One launch. before, after: copies of its tensors by argument name, none where their memory is only reserved; scalars:
    all other arguments; grid: programs.

    arithmetic: "exact" or "faithful". faults: findings of the memory check in this launch.
    error: the exception of the kernel; `after` then holds the tensors as they were at that point.
    """

    name: str
    function: Any
    arithmetic: str
    before: dict[str, torch.Tensor]
    after: dict[str, torch.Tensor]
    scalars: dict[str, Any]
    grid: tuple[int, int, int]
    faults: tuple[MemoryFault, ...]
    error: str | None = None


Observer = Callable[[Seen], object]

_observer: ContextVar[Observer | None] = ContextVar("observer", default=None)


@contextlib.contextmanager
def watching(observer: Observer) -> Iterator[None]:
    """Call `observer` after every launch, in any session."""
    token = _observer.set(observer)
    try:
        yield
    finally:
        _observer.reset(token)


@contextlib.contextmanager
def observed(arithmetic: str, function: Any, launch: CheckedLaunch, memory: Memory | None) -> Iterator[None]:
    """Around one launch. Costs nothing while nobody is watching."""
    observer = _observer.get()
    if observer is None:
        yield
        return
    known = _counts(memory)
    # Memory that is only reserved holds nothing, and copies of it would take gigabytes.
    copies = _copies if getattr(memory, "contents", True) else lambda launch: {}
    before = copies(launch)
    error = None
    try:
        yield
    except Exception as raised:
        error = str(raised)
        raise
    finally:
        faults = () if memory is None else tuple(f for f in memory.faults if f.count > known.get(_key(f), 0))
        scalars = {name: x for name, x in launch.arguments.items() if not isinstance(x, torch.Tensor)}
        seen = Seen(name=launch.name, function=function, arithmetic=arithmetic, before=before, after=copies(launch),
                    scalars=scalars, grid=launch.grid, faults=faults, error=error)  # fmt: skip
        observer(seen)


def _copies(launch: CheckedLaunch) -> dict[str, torch.Tensor]:
    # Outside the modes of the session, which would place and poison the copies, or compute with them.
    with _disable_current_modes():
        return {
            name: x.detach().clone(memory_format=torch.contiguous_format)
            for name, x in launch.arguments.items()
            if isinstance(x, torch.Tensor)
        }


def _key(fault: MemoryFault) -> tuple[str, ...]:
    return fault.fault, fault.kind, fault.kernel, f"{fault.file}:{fault.line}"


def _counts(memory: Memory | None) -> dict[tuple[str, ...], int]:
    return {} if memory is None else {_key(fault): fault.count for fault in memory.faults}
