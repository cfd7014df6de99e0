"""Values that depend only on constants and on the numbers of a thread and its program, for any arguments."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..assembly.text import PtxKernel, Statement

_TWO: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "add": np.add,
    "sub": np.subtract,
    "shl": lambda a, b: np.where(b < 32, a << (b & 31), 0),
    "shr": lambda a, b: np.where(b < 32, a >> (b & 31), 0),
    "mul": np.multiply,
}
_DEPTH = 64
Grid = tuple[int, int, int]


def values(kernel: PtxKernel, operand: str, grid: Grid, depth: int = 0) -> np.ndarray | None:
    """The value of a 32-bit operand in each thread of a launch; None where it may depend on anything else, or an operation is not
    among the few that are known. uint32 [programs along z, y and x, threads], any of them 1 where it does not matter."""
    x, y, z = kernel.threads
    if operand == "%tid.x" and (y, z) == (1, 1):
        return np.arange(x, dtype=np.uint32)[None, None, None]
    if operand.startswith("%ctaid."):
        axis = "zyx".index(operand[-1])
        return np.arange(grid[2 - axis], dtype=np.uint32).reshape([-1 if i == axis else 1 for i in range(4)])
    if not operand.startswith("%"):
        try:
            return np.full((1, 1, 1, 1), int(operand, 0) & 0xFFFFFFFF, np.uint32)
        except ValueError:
            return None
    if depth == _DEPTH or kernel.widths.get(operand) != 32:
        return None
    writers = [statement for statement in kernel.statements if _writes(statement, operand)]
    if len(writers) != 1 or writers[0].predicate:
        return None
    made = writers[0]
    inputs = [values(kernel, each, grid, depth + 1) for each in made.operands[1:]]
    if any(each is None for each in inputs) or not made.opcode.endswith("32"):
        return None
    known = [each for each in inputs if each is not None]
    if made.parts[0] == "mov":
        return known[0]
    exact = made.parts[0] not in ("shr", "mul") or made.opcode in ("shr.u32", "shr.b32", "mul.lo.s32", "mul.lo.u32")
    if made.parts[0] in _TWO and len(known) == 2 and exact:
        return _TWO[made.parts[0]](known[0], known[1]).astype(np.uint32)
    return None


_COMPARED: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal
}  # fmt: skip


def always(kernel: PtxKernel, predicate: str, grid: Grid) -> bool:
    """Whether a predicate, "%p1" or "!%p1", is known to be true in every thread of a launch."""
    writers = [statement for statement in kernel.statements if _writes(statement, predicate.removeprefix("!"))]
    if len(writers) != 1 or writers[0].predicate:
        return False
    made, wanted = writers[0], not predicate.startswith("!")
    if made.opcode == "mov.pred":
        return made.operands[1] in ("-1", "1", "0") and (made.operands[1] != "0") == wanted
    if (
        made.parts[0] != "setp"
        or made.opcode.rpartition(".")[2] not in ("u32", "b32")
        or made.parts[1] not in _COMPARED
    ):
        return False
    one, other = (values(kernel, operand, grid) for operand in made.operands[1:3])
    if one is None or other is None:
        return False
    return bool((_COMPARED[made.parts[1]](one, other) == wanted).all())


def _writes(statement: Statement, register: str) -> bool:
    if not statement.operands or statement.parts[0] in ("st", "red", "bra", "cp", "bar"):
        return False
    first = statement.operands[0].replace("{", " ").replace("}", " ").replace(",", " ").replace("|", " ")
    return register in first.split()
