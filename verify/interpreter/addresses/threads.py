"""Elements that one program stores and loads again, where the order of its threads would show.

Threads of a program meet at `tl.debug_barrier()`; nothing else in a kernel's text promises that they do. A place of a tile (its
shape, and the number of an element in it) stands for the thread that has it: the same place of a tile of the same shape loads its
own element, and another place loads that of another thread, which may not be as far.
"""

from __future__ import annotations

import numpy as np

_NEVER = -1
_PLACES = 40
"""Bits for the number of an element, below those for the number of a shape."""


class Turns:
    """Stretches of a program between barriers, and the places of tiles, as numbers.

    warps: of a program; the threads of one go together.
    """

    def __init__(self) -> None:
        self.warps = 1
        self.now = 0
        self._program = _NEVER
        self._shapes: dict[tuple[int, ...], int] = {}

    def barrier(self) -> None:
        """All threads of the running program are as far."""
        self.now += 1

    def begin(self, program: int) -> None:
        """The running program; a new one begins its first stretch."""
        if program != self._program:
            self._program = program
            self.barrier()

    def places(self, shape: tuple[int, ...], elements: np.ndarray) -> np.ndarray:
        """The numbers of elements of a tile, as places."""
        return (self._shapes.setdefault(shape, len(self._shapes)) << _PLACES) + elements


class Kept:
    """When and where each element of a tensor was stored last: the stretch, and the place that did."""

    def __init__(self, elements: int) -> None:
        self._turn = np.full(elements, _NEVER, dtype=np.int64)
        self._place = np.zeros(elements, dtype=np.int64)

    def recent(self, index: np.ndarray, turn: int) -> np.ndarray:
        """The elements that were stored since the last barrier."""
        return self._turn[index] == turn

    def foreign(self, index: np.ndarray, places: np.ndarray) -> np.ndarray:
        """The elements that another place stored last."""
        return self._place[index] != places

    def store(self, index: np.ndarray, turn: int, places: np.ndarray) -> None:
        """Take note of a store. An element that several places store is nobody's: each of them has it."""
        self._turn[index], self._place[index] = turn, places
        self._turn[index[self._place[index] != places]] = _NEVER
