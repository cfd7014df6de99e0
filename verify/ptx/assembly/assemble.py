"""From PTX statements to the engine's instructions."""

from __future__ import annotations

# Imported for the encoders that they register.
from . import encode_memory, encode_order, encode_values  # noqa: F401
from .assembler import Assembler
from .program import Program
from .text import PtxKernel, parse


def assemble(ptx: str | PtxKernel, shared: int) -> Program:
    """The program of a kernel that is launched with `shared` bytes of dynamic shared memory.

    Raises PtxError for text that is not a program, Unsupported for an instruction that the engine does not know.
    """
    kernel = parse(ptx) if isinstance(ptx, str) else ptx
    assembler = Assembler(kernel, shared)
    for statement in kernel.statements:
        assembler.encode(statement)
    return assembler.finish()
