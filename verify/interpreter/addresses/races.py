"""Which programs of a launch touch the same element, where the order they happen to run in would show.

Programs of one launch have no order. An element that one of them writes and another reads or writes is a race, unless
the write leaves the bits that were there. Atomic operations are made for this and do not count.
"""

from __future__ import annotations

import numpy as np

_NOBODY, _SEVERAL = -1, -2


class Touched:
    """Last writer and readers of every element of one tensor, by the number of their program."""

    def __init__(self, elements: int) -> None:
        self._writer = np.full(elements, _NOBODY, dtype=np.int32)
        self._reader = np.full(elements, _NOBODY, dtype=np.int32)

    def load(self, index: np.ndarray, program: int) -> np.ndarray:
        """Take note of a load; which of its elements another program wrote."""
        reader, writer = self._reader[index], self._writer[index]
        self._reader[index] = np.where((reader == _NOBODY) | (reader == program), program, _SEVERAL)
        return (writer != _NOBODY) & (writer != program)

    def contested(self, index: np.ndarray, program: int) -> np.ndarray:
        """The elements of a store about to happen that another program wrote or read."""
        reader, writer = self._reader[index], self._writer[index]
        return ((writer != _NOBODY) & (writer != program)) | ((reader != _NOBODY) & (reader != program))

    def store(self, index: np.ndarray, program: int, changed: np.ndarray) -> None:
        """Take note of a store. A second writer of the same bits leaves the element to the first."""
        self._writer[index] = np.where(changed | (self._writer[index] == _NOBODY), program, self._writer[index])
