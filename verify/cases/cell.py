"""The subject of one verdict: a kernel, a rule and a property."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

ORACLE_KERNEL = "oracle"
"""Stands for the kernel in cells that need none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The subject of one verdict.

    among: the rules on which this kernel is judged by this property, which share the cases that every kernel meets once.
    """

    target: str
    kernel: str
    rule: str
    property: str
    among: tuple[str, ...] = ()

    def shared(self) -> tuple[str, ...]:
        """`among`, or the cell's own rule where nothing is said."""
        return self.among or (self.rule,)

    def seed(self, seed: int) -> int:
        """A seed of its own for every cell, the same on every machine."""
        return zlib.crc32(f"{seed}/{self.target}/{self.kernel}/{self.rule}/{self.property}".encode())
