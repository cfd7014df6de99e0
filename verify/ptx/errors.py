"""Errors in the text of a program, raised before it runs."""

from __future__ import annotations


class PtxError(ValueError):
    """The text is no program that this engine reads: cut, foreign, or of another instruction set. One line."""


class UnknownInstruction(PtxError):
    """A correct program that has an instruction this engine does not know. `opcode` is its name.

    Nothing is ever skipped: a program with one unknown instruction gets no verdict.
    """

    def __init__(self, opcode: str, detail: str = "") -> None:
        self.opcode = opcode
        super().__init__(f"unsupported: {opcode}" + (f" in `{detail}`" if detail and detail != opcode else ""))


class NoCompiler(RuntimeError):
    """No C compiler builds the engine here. One line that names the compilers that were tried."""
