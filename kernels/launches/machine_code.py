"""The machine code of a compiled kernel, instruction by instruction. NVIDIA only: the disassembler comes with Triton."""

from __future__ import annotations

import re
import subprocess
import tempfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from triton import knobs

_LINE = re.compile(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?(\S+)\s*(.*?)\s*;")
_LABEL = re.compile(r"^(\.L_[\w$]+):")
_TARGET = re.compile(r"`\((\.L[\w$]+)\)")
_SEPARATOR = re.compile(r",\s*(?![^\[(]*[\])])")


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """address: in bytes. guard: its predicate, such as "!P0", or "". opcode: with its modifiers. operands: as text."""

    address: int
    guard: str
    opcode: str
    operands: tuple[str, ...]

    @property
    def name(self) -> str:
        """The opcode without modifiers."""
        return self.opcode.partition(".")[0]

    @property
    def target(self) -> str | None:
        """The label that it branches to."""
        found = _TARGET.search(self.operands[-1]) if self.operands else None
        return found.group(1) if found else None

    def __str__(self) -> str:
        guard = f"@{self.guard} " if self.guard else ""
        return f"{guard}{self.opcode} {', '.join(self.operands)}".rstrip()


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineCode:
    """labels: name -> index of the instruction behind it."""

    instructions: tuple[Instruction, ...]
    labels: dict[str, int]


@lru_cache(maxsize=1)
def disassemble(code: bytes) -> MachineCode:
    """The instructions of a cubin. Raises RuntimeError if the disassembler refuses it."""
    tool = Path(knobs.nvidia.nvdisasm.path)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code)
        file.flush()
        # Without its analysis of data flow, which this listing does not show, it takes three quarters of the time.
        done = subprocess.run([str(tool), "-c", "-ndf", file.name], capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout:
        raise RuntimeError(f"nvdisasm: {done.stderr.strip() or 'no output'}")
    return parse(done.stdout)


def parse(text: str) -> MachineCode:
    """The instructions of a listing."""
    instructions: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := _LABEL.match(line.strip()):
            labels[label.group(1)] = len(instructions)
        elif found := _LINE.match(line):
            address, guard, opcode, rest = found.groups()
            operands = tuple(_SEPARATOR.split(rest)) if rest else ()
            instructions.append(
                Instruction(address=int(address, 16), guard=guard or "", opcode=opcode, operands=operands)
            )
    return MachineCode(instructions=tuple(instructions), labels=labels)
