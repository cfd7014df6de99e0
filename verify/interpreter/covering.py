"""The coverage of launches: second programs along each axis of a grid, second trips of each loop.

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

from .launch import CheckedLaunch
from .records import KERNEL_MARK

Facts = set[str]
"""`ran <kernel>`; `seen <what>`, it ran, and `more <what>`, more than one did; what: `program <kernel> <axis>` or
`loop <function>:<line>`."""

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


@functools.cache
def _axes(function: Callable[..., Any]) -> tuple[int, ...]:
    """The axes of the grid that a kernel's own text asks for; none where it cannot be read."""
    try:
        text = inspect.getsource(function)
    except OSError:
        return ()
    return tuple(sorted({int(axis) for axis in re.findall(r"program_id\((?:axis=)?([012])\)", text)}))
