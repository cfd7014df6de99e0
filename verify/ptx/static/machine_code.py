"""A lint of machine code: registers that are computed with, and that nothing has written.

PTX that keeps every rule can still be assembled wrongly. ptxas 12.8.93, which comes with Triton 3.6 and 3.7, drops the definition
of a product's descriptor in some kernels and goes on with the old value of the register: an access out of bounds if that is far
off, wrong results if it is near. No run of the PTX can show it; the machine code does.

Only integer additions and multiplications count, of which addresses are made. That code packs bits, moves or spills values
which it never looks at is common and harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from ....kernels.launches.machine_code import Instruction, MachineCode, disassemble
from ..finding import Finding

_COMPUTES = {"IADD3", "UIADD3", "IADD", "VIADD", "IMAD", "UIMAD", "LEA", "ULEA"}
_MOVES = {"MOV", "SHL"}
_WRITES_NO_REGISTER = {
    "ST", "STG", "STS", "STL", "STSM", "RED", "REDG", "BAR", "BRA", "EXIT", "MEMBAR", "FENCE", "LDGDEPBAR",
    "DEPBAR", "WARPGROUP", "WARPSYNC", "NOP", "BSSY", "BSYNC", "CCTL", "CCTLL", "ERRBAR", "RET", "JMP", "LDGSTS",
    "UTMASTG", "UTMALDG", "UBLKCP", "UTMACMDFLUSH", "UTMACCTL", "UTMAREDG", "R2P", "BREAK", "BMOV", "YIELD",
    "NANOSLEEP", "SYNCS", "KILL", "ACQBULK", "PREEXIT", "USETMAXREG", "BPT", "PLOP3", "UPLOP3",
}  # fmt: skip
_ENDS = {"EXIT", "RET"}
_UNKNOWN_TARGETS = {"BRX", "BRXU", "JMX", "CALL"}
_SETS_PREDICATE = re.compile(r"U?[IFHD]SETP|HSETP2")
_PREDICATE = re.compile(r"!?U?P[T\d]")
_DESTINATION = re.compile(r"(U?R)(\d+)(?:\.\w+)?")
_REGISTER = re.compile(r"\b(U?R)(\d+)\b")
_HALF = re.compile(r"64x(\d+)x")
_UNIFORM = 256
"""Where uniform registers begin in a set of registers, which is an integer."""


@lru_cache(maxsize=256)
def unwritten_registers(code: bytes, kernel: str) -> tuple[Finding, ...]:
    """Findings of a cubin. Raises RuntimeError for bytes that are not a cubin."""
    return tuple(unwritten(disassemble(code), kernel))


def misassembled(code: bytes, kernel: str) -> str:
    """The first finding of a cubin in one line, "" where there is none. Raises RuntimeError for bytes that are not a cubin."""
    found = unwritten_registers(code, kernel)
    return f"{found[0].instruction} reads {found[0].detail}, which nothing has written" if found else ""


def unwritten(machine: MachineCode, kernel: str) -> Iterator[Finding]:
    """Findings of machine code; none where it branches to computed addresses."""
    if any(instruction.name in _UNKNOWN_TARGETS for instruction in machine.instructions):
        return
    before = _before(machine, [_written(instruction) for instruction in machine.instructions])
    for known, instruction in zip(before, machine.instructions, strict=True):
        if known is None or not _computes(instruction):
            continue
        for name, number in _sources(instruction):
            if not known >> _bit(name, number) & 1:
                yield Finding(
                    rule="register-unwritten",
                    kernel=kernel,
                    instruction=str(instruction),
                    schedule="static",
                    detail=f"{name}{number} at {instruction.address:#x} of the machine code",
                )


def _computes(instruction: Instruction) -> bool:
    modifiers = set(instruction.opcode.split(".")[1:])
    return instruction.name in _COMPUTES and not modifiers & _MOVES


def _before(machine: MachineCode, written: list[int]) -> list[int | None]:
    """The registers that some path to each instruction has written; None where there is no path."""
    known: list[int | None] = [None] * len(written)
    waiting = [(0, 0)]
    while waiting:
        index, reached = waiting.pop()
        while index < len(written):
            old = known[index]
            if old is not None and old | reached == old:
                break
            reached |= old or 0
            known[index] = reached
            reached |= written[index]
            instruction = machine.instructions[index]
            if instruction.name == "BRA":
                target = machine.labels.get(instruction.target or "")
                if target is not None:
                    waiting.append((target, reached))
                conditional = instruction.guard not in ("", "PT") or len(instruction.operands) > 1
                if not conditional:
                    break
            elif instruction.name in _ENDS and not instruction.guard:
                break
            index += 1
    return known


def _bit(name: str, number: int) -> int:
    return number + (_UNIFORM if name == "UR" else 0)


def _written(instruction: Instruction) -> int:
    """The registers that an instruction writes, as a set; rather too many than too few."""
    if instruction.name in _WRITES_NO_REGISTER or _SETS_PREDICATE.match(instruction.name):
        return 0
    operand = next((text for text in instruction.operands if not _PREDICATE.fullmatch(text)), "")
    found = _DESTINATION.fullmatch(operand)
    if found is None:
        return 0
    return ((1 << _width(instruction)) - 1) << _bit(found.group(1), int(found.group(2)))


def _width(instruction: Instruction) -> int:
    """Registers of the destination."""
    modifiers = instruction.opcode.split(".")[1:]
    if instruction.name in ("HGMMA", "QGMMA", "IGMMA"):
        columns = _HALF.search(instruction.opcode)
        return int(columns.group(1)) // 2 if columns else 128
    if instruction.name in ("HMMA", "IMMA", "QMMA", "DMMA"):
        return 4
    if instruction.name == "LDSM":
        return 4 if "4" in modifiers else 2 if "2" in modifiers else 1
    for word, width in (("256", 8), ("128", 4), ("64", 2), ("WIDE", 2), ("F64", 2)):
        if word in modifiers:
            return width
    return 2 if instruction.name in ("DADD", "DMUL", "DFMA", "CS2R") else 1


def _sources(instruction: Instruction) -> list[tuple[str, int]]:
    """The registers that an addition or a multiplication reads."""
    operands = list(instruction.operands)
    while operands and _PREDICATE.fullmatch(operands[0]):
        operands.pop(0)
    return [(name, int(number)) for text in operands[1:] for name, number in _REGISTER.findall(text)]
