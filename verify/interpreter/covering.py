"""The coverage of launches: second programs along each axis of a grid, second trips of each loop, both sides of each mask, branch
and flag.

A caller notes it for a while, over all sessions that run meanwhile; nothing is copied.
"""

from __future__ import annotations

import functools
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import triton.language as tl

from .launch import CheckedLaunch
from .records import KERNEL_MARK

Facts = set[str]
"""`ran <kernel>`; `seen <what>`, it ran, and `more <what>`, more than one did; what: `program <kernel> <axis>` or
`loop <function>:<line>`. `on <which>` and `off <which>`, that it was true and that it was false, of a mask in any element; which:
`mask <function>:<line>`, `branch <function>:<line>` (`sides`) or `flag <kernel> <name>`, a constant that is True or False."""

_noted: ContextVar[Facts | None] = ContextVar("noted", default=None)


@contextmanager
def covering() -> Iterator[Facts]:
    """The facts of all launches while the context lasts."""
    facts: Facts = set()
    token = _noted.set(facts)
    try:
        yield facts
    finally:
        _noted.reset(token)


def note_launch(function: Callable[..., Any], launch: CheckedLaunch) -> None:
    """Along which of the axes that a kernel asks for it had more than one program."""
    facts = _noted.get()
    if facts is None:
        return
    facts.add(f"ran {launch.name}")
    for axis in _axes(function):
        what = f"program {launch.name} {'xyz'[axis]}"
        facts.add(f"seen {what}")
        if launch.grid[axis] > 1:
            facts.add(f"more {what}")
    for name in launch.constants:
        if type(value := launch.arguments[name]) is bool:
            facts.add(f"{'on' if value else 'off'} flag {launch.name} {name}")


def note_loop(trips: int) -> None:
    """Whether the loop of a kernel that begins now has more than one trip. Called by the replacement of `range`."""
    facts = _noted.get()
    if facts is None:
        return
    frame = sys._getframe(2)
    if KERNEL_MARK not in frame.f_globals:
        return
    what = f"loop {frame.f_code.co_name}:{frame.f_lineno - frame.f_code.co_firstlineno}"
    facts.add(f"seen {what}")
    if trips > 1:
        facts.add(f"more {what}")


def note_mask(mask: Any, on: str, off: str) -> Any:
    """The mask, after whether it is true and false anywhere was noted under these names."""
    facts = _noted.get()
    if facts is not None and type(mask) is tl.tensor:
        if on not in facts and mask.handle.data.any():
            facts.add(on)
        if off not in facts and not mask.handle.data.all():
            facts.add(off)
    return mask


def note_branch(test: Any, on: str, off: str) -> bool:
    """Whether the branch is taken, after that was noted under these names."""
    taken = bool(test)
    if (facts := _noted.get()) is not None:
        facts.add(on if taken else off)
    return taken


@functools.cache
def _axes(function: Callable[..., Any]) -> tuple[int, ...]:
    """The axes of the grid that a kernel's own text asks for; none where it cannot be read."""
    try:
        text = inspect.getsource(function)
    except OSError:
        return ()
    return tuple(sorted({int(axis) for axis in re.findall(r"program_id\((?:axis=)?([012])\)", text)}))
