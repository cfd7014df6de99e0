"""The instructions of a launch, read off its machine code: counts by class, loops, spills, barriers and pipeline buffers.

A warp issues at most one instruction per cycle and scheduler, so that the number of warp instructions is a bound on time as
the number of bytes is. Loops are found by their backward branches; how often one runs is for the caller to say, since the
bound is often an argument of the launch.
"""

from __future__ import annotations

from collections import Counter

from ...results.schema.instructions import Instructions, Loop
from .machine_code import disassemble

_CLASSES = {
    "tensor core": "HMMA HGMMA IMMA IGMMA QMMA QGMMA DMMA UTCHMMA UTCQMMA",
    "exponential": "MUFU",
    "fp32": "FFMA FADD FMUL FSEL FSETP FMNMX FSET FSWZADD FFMA2 FADD2 FMUL2 FCHK",
    "conversion": "F2FP F2F I2F F2I I2FP F2IP HADD2 HMUL2 HFMA2",
    "shared": "LDS LDSM STS STSM ATOMS",
    "global": "LDG LD STG ST RED ATOM ATOMG",
    "async copy": "LDGSTS UTMALDG UTMASTG UBLKCP",
    "spill": "LDL STL",
    "shuffle": "SHFL REDUX VOTE",
    "barrier": "BAR",
    "wait": "WARPSYNC SYNCS BSYNC BSSY DEPBAR LDGDEPBAR WARPGROUP FENCE MEMBAR NOP",
    "control": "BRA EXIT CALL RET JMP BRX BREAK",
    "uniform": "R2UR S2UR S2R CS2R LDC ULDC LDCU",
}
CLASSES = (*_CLASSES, "integer")
"""Classes of instructions; `integer` is address arithmetic, moves, and all that is not listed."""
_CLASS_OF = {opcode: name for name, opcodes in _CLASSES.items() for opcode in opcodes.split()}
_SHORTEST_LOOP = 3
"""Instructions: a shorter one is the end of a program, which branches to itself, or waits."""


def class_of(opcode: str) -> str:
    """The class of an opcode such as `FMUL` or `LDG.E.128`."""
    name = opcode.partition(".")[0]
    return _CLASS_OF.get(name, "uniform" if name.startswith("U") else "integer")


def read(code: bytes) -> Instructions:
    """The program in a cubin. Raises RuntimeError if the disassembler refuses it."""
    machine = disassemble(code)
    opcodes = [instruction.opcode for instruction in machine.instructions]
    ends: dict[int, int] = {}
    for index, instruction in enumerate(machine.instructions):
        first = machine.labels.get(instruction.target or "", index) if instruction.name == "BRA" else index
        if first + _SHORTEST_LOOP <= index:
            ends[first] = max(index, ends.get(first, 0))
    spans = sorted(ends.items(), key=lambda span: (span[0], -span[1]))
    loops: list[Loop] = []
    straight = Counter(map(class_of, opcodes))
    for first, last in spans:
        inner = [span for span in spans if span != (first, last) and first <= span[0] and span[1] <= last]
        around = sum(span != (first, last) and span[0] <= first and last <= span[1] for span in spans)
        # Loops that overlap without one in the other count as beside each other.
        depth = min(around, loops[-1].depth + 1 if loops else 0)
        own = Counter(class_of(opcodes[i]) for i in range(first, last + 1) if not any(a <= i <= z for a, z in inner))
        loops.append(Loop(depth=depth, own=own))
        straight -= own
    return Instructions(straight=straight, loops=tuple(loops))
