"""A program in the form that the engine runs: instructions and operands as arrays, and the initial values of registers."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

import numpy as np

from .text import PtxKernel

SPECIAL = ("%tid.x", "%tid.y", "%tid.z", "%laneid", "%warpid", "%ctaid.x", "%ctaid.y", "%ctaid.z")
"""Registers that differ from thread to thread or from program to program, in the engine's order."""


LOCAL_BASE, SHARED_BASE = 0x600000000000, 0x500000000000
"""Where the windows of local and shared memory lie among generic addresses; native/memory.h has the same."""


class EncodedInstruction(ctypes.Structure):
    """One instruction; native/engine.h has the same fields."""

    _fields_ = tuple(
        (name, ctypes.c_int32)
        for name in ["op", "type", "pred", "negated", "count", "first", "x", "y", "z", "w", "n", "v"]
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Program:
    """An assembled kernel.

    code: one instruction for each statement of `kernel`. operands: int32 register numbers. registers: numbers by name.
    widths: bits of each register. constants: value by register. symbols: parameter or variable by register, with an offset.
    shared: bytes of shared memory, static and dynamic. local: bytes of local memory of a thread. partial: whether it has
    barriers of some warps only. products: whether it has asynchronous products.
    """

    kernel: PtxKernel
    code: ctypes.Array[EncodedInstruction]
    operands: np.ndarray
    registers: dict[str, int]
    widths: np.ndarray
    constants: dict[int, int]
    symbols: dict[int, tuple[str, int]]
    shared: int
    local: int
    partial: bool
    products: bool

    @property
    def warps(self) -> int:
        x, y, z = self.kernel.threads
        return x * y * z // 32
