"""The tools with which encoders write instructions: registers, constants, operands, and who encodes which instruction."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

import numpy as np

from ..errors import PtxError, UnknownInstruction
from .opcodes import OPERATIONS, TYPES
from .program import SPECIAL, EncodedInstruction, Program
from .text import PtxKernel, Statement

Encoder = Callable[["Assembler", Statement], None]
ENCODERS: dict[str, Encoder] = {}
"""The encoder of an instruction, by the first word of its name."""

_NUMBER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[bB][01]+|\d+)U?$")
_REAL = re.compile(r"0[fF][0-9a-fA-F]{8}$|0[dD][0-9a-fA-F]{16}$|-?\d+\.\d*(?:[eE][-+]?\d+)?$")
_ADDRESS = re.compile(r"\[\s*([%\w.$@]+)\s*(?:\+\s*(-?\w+)|(-\s*\w+))?\s*\]$")
_LAUNCH = re.compile(r"%n?(?:tid|ctaid)\.[xyz]$|%n?(?:cluster|cta)\w*(?:\.[xyz])?$|%smid$")


def encodes(*roots: str) -> Callable[[Encoder], Encoder]:
    """Register the encoder of the instructions whose names begin with one of these words."""

    def register(encoder: Encoder) -> Encoder:
        ENCODERS.update(dict.fromkeys(roots, encoder))
        return encoder

    return register


class Assembler:
    """Numbers registers, constants among them, and takes instructions down."""

    def __init__(self, kernel: PtxKernel, shared: int) -> None:
        self.kernel = kernel
        self.registers: dict[str, int] = {}
        self.widths: list[int] = []
        self.constants: dict[int, int] = {}
        self.symbols: dict[int, tuple[str, int]] = {}
        self.operands: list[int] = []
        self.code = (EncodedInstruction * max(len(kernel.statements), 1))()
        self.at = 0
        self.partial = self.products = False
        self.statement: Statement | None = None
        self.places: dict[str, int] = {}
        self.swapped = {s.operands[1] for s in kernel.statements if s.parts[0] == "atom" and "cas" in s.parts}
        self.shared, self.local = self._place(shared)

    def _place(self, dynamic: int) -> tuple[int, int]:
        """Addresses of the variables in shared and local memory. The dynamic part of shared memory starts at 0."""
        sizes = {"shared": dynamic, "local": 0}
        for variable in self.kernel.variables.values():
            if variable.space not in sizes:
                continue
            if variable.space == "shared" and variable.size == 0:
                self.places[variable.name] = 0
                continue
            start = -(-sizes[variable.space] // variable.align) * variable.align
            self.places[variable.name] = start
            sizes[variable.space] = start + variable.size
        return sizes["shared"], sizes["local"]

    def encode(self, statement: Statement) -> None:
        encoder = ENCODERS.get(statement.parts[0])
        if encoder is None:
            raise UnknownInstruction(statement.opcode, statement.text)
        self.statement = statement
        instruction = self.code[self.at]
        instruction.pred = self.register(statement.predicate.lstrip("!")) if statement.predicate else -1
        instruction.negated = statement.predicate.startswith("!")
        try:
            encoder(self, statement)
        except (IndexError, KeyError, StopIteration, ValueError) as error:
            if isinstance(error, PtxError):
                raise
            raise UnknownInstruction(statement.opcode, statement.text) from error
        self.at += 1

    def emit(self, operation: str, registers: list[int], kind: str = "b32", **fields: int) -> None:
        """Write the instruction of the present statement."""
        instruction = self.code[self.at]
        instruction.op, instruction.type = OPERATIONS[operation], TYPES[kind]
        instruction.count, instruction.first = len(registers), len(self.operands)
        self.operands += registers
        for name, value in fields.items():
            setattr(instruction, name, value)

    def unsupported(self) -> UnknownInstruction:
        assert self.statement is not None
        return UnknownInstruction(self.statement.opcode, self.statement.text)

    def only(self, words: list[str], *accepted: str) -> None:
        """Every modifier that is not understood makes the instruction unknown."""
        if any(word not in accepted for word in words):
            raise self.unsupported()

    def register(self, name: str) -> int:
        """The number of a register. A name that was not declared is a fault of the text."""
        if name == "_":
            name = "%_sink"
        if name in self.registers:
            return self.registers[name]
        if name in self.kernel.widths:
            width = self.kernel.widths[name]
        elif name == "%_sink":
            width = 64
        elif name in SPECIAL or _LAUNCH.match(name):
            width = 32
        elif name.startswith("%") and name[1:].split(".")[0].isalpha():
            raise UnknownInstruction(name, self.statement.text if self.statement else "")
        else:
            raise PtxError(f"{name} is not declared" + (f" in `{self.statement.text[:60]}`" if self.statement else ""))
        return self._new(name, width)

    def _new(self, name: str, width: int) -> int:
        self.registers[name] = len(self.widths)
        self.widths.append(width)
        return self.registers[name]

    def constant(self, value: int) -> int:
        value &= (1 << 64) - 1
        name = f"#{value}"
        if name not in self.registers:
            self.constants[self._new(name, 64)] = value
        return self.registers[name]

    def value(self, word: str, bits: int) -> int:
        """The register of an operand that is read: a register, a number cut to `bits`, or a variable's address."""
        if _REAL.match(word):
            if word[:2] in ("0f", "0F", "0d", "0D"):
                return self.constant(int(word[2:], 16))
            real = float(word)
            return self.constant(int.from_bytes(struct.pack("<d" if bits == 64 else "<f", real), "little"))
        if _NUMBER.match(word):
            return self.constant(_integer(word) & ((1 << bits) - 1))
        if word in ("true", "false"):
            return self.constant(word == "true")
        if word == "WARP_SZ":
            return self.constant(32)
        if word not in self.kernel.widths and (
            found := re.match(r"([A-Za-z_$][\w$@]*|%\w+)(?:\s*\+\s*(-?\w+))?$", word)
        ):
            offset = _integer(found[2]) if found[2] else 0
            name = found[1]
            if name in self.places:
                return self.constant(self.places[name] + offset)
            if name in self.kernel.variables or any(name == known.name for known in self.kernel.parameters):
                return self.symbol(name, offset)
        return self.register(word)

    def symbol(self, name: str, offset: int = 0) -> int:
        """A register that holds a parameter's value, or the address of a variable or of a parameter that is an array."""
        key = f"${name}+{offset}"
        if key not in self.registers:
            self.symbols[self._new(key, 64)] = (name, offset)
        return self.registers[key]

    def address(self, word: str) -> tuple[int, int]:
        """Register and offset of an operand in brackets."""
        found = _ADDRESS.match(word)
        if found is None:
            raise self.unsupported()
        offset = _integer((found[2] or found[3] or "0").replace(" ", ""))
        if not -(2**31) <= offset < 2**31:
            raise self.unsupported()
        return self.value(found[1], 64), offset

    def width(self, name: str) -> int:
        return 64 if name == "_" else self.kernel.widths.get(name, 64)

    def finish(self) -> Program:
        return Program(
            kernel=self.kernel, code=self.code, operands=np.array([*self.operands, 0], dtype=np.int32),
            registers=self.registers, widths=np.array(self.widths, dtype=np.int64), constants=self.constants,
            symbols=self.symbols, shared=self.shared, local=self.local, partial=self.partial, products=self.products,
        )  # fmt: skip


def vector(word: str) -> list[str]:
    """The names in braces, or the one name without."""
    return [name.strip() for name in word.strip("{} ").split(",")]


def _integer(word: str) -> int:
    word = word.rstrip("U")
    sign, word = (-1, word[1:]) if word.startswith("-") else (1, word)
    if len(word) > 1 and word[0] == "0" and word.isdigit():
        return sign * int(word, 8)
    return sign * int(word, 0)
