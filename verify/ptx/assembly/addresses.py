"""Addresses that are known without running a program: values that depend on the thread's number alone."""

from __future__ import annotations

import re
from functools import cached_property

import numpy as np

from ..errors import PtxError
from .text import PtxKernel, Statement

_MASKS = {bits: np.uint64((1 << bits) - 1) for bits in (8, 16, 32, 64)}
_READS_FIRST = (
    "st",
    "red",
    "bra",
    "bar",
    "barrier",
    "stmatrix",
    "cp",
    "wgmma",
    "fence",
    "mbarrier",
    "ret",
    "exit",
    "trap",
)


def destination(statement: Statement) -> list[str]:
    """Registers that a statement writes."""
    root = statement.parts[0]
    if not statement.operands or root in _READS_FIRST:
        if root == "wgmma" and statement.parts[1] == "mma_async":
            return _names(statement.operands[0])
        return []
    return _names(statement.operands[0])


def sources(statement: Statement) -> list[str]:
    """Registers that a statement reads, its predicate among them."""
    root = statement.parts[0]
    first = 0 if root in _READS_FIRST else 1
    words = " ".join(statement.operands[first:]) + " " + statement.predicate
    return re.findall(r"%[\w.]+(?:@\d+)?", words)


def _names(word: str) -> list[str]:
    return [name for name in re.split(r"[{}|,\s]+", word) if name and name != "_"]


class Values:
    """Values of registers for every thread of a program, where constants and the thread's number decide them.

    A register that is written once, unguarded, by integer arithmetic on such values has one; all others have none.
    """

    def __init__(self, kernel: PtxKernel) -> None:
        self.kernel = kernel
        self.threads = int(np.prod(kernel.threads))
        self._known: dict[str, np.ndarray | None] = {}

    @cached_property
    def _definitions(self) -> dict[str, list[Statement]]:
        found: dict[str, list[Statement]] = {}
        for statement in self.kernel.statements:
            for name in destination(statement):
                found.setdefault(name, []).append(statement)
        return found

    def of(self, word: str) -> np.ndarray | None:
        """[threads] uint64, or None where the value is not known."""
        word = word.strip()
        if re.fullmatch(r"-?(?:0x[0-9a-fA-F]+|\d+)U?", word):
            return np.full(self.threads, int(word.rstrip("U"), 0) & ((1 << 64) - 1), np.uint64)
        if word == "%tid.x" and self.kernel.threads[1:] == (1, 1):
            return np.arange(self.threads, dtype=np.uint64)
        if word in self.kernel.variables:
            shared = self.kernel.variables[word].space == "shared" and self.kernel.variables[word].size == 0
            return np.zeros(self.threads, np.uint64) if shared else None
        if word not in self._known:
            self._known[word] = None  # a cycle has no value
            definitions = self._definitions.get(word, [])
            if len(definitions) == 1 and not definitions[0].predicate:
                self._known[word] = self._computed(definitions[0])
        return self._known[word]

    def address(self, operand: str) -> np.ndarray | None:
        """[threads] bytes, of an operand in brackets."""
        found = re.match(r"\[\s*([%\w.$@]+)\s*(?:\+\s*(-?\w+))?\s*\]", operand)
        if found is None:
            return None
        base = self.of(found[1])
        return None if base is None else (base + np.uint64(int(found[2] or "0", 0) & ((1 << 64) - 1))) & _MASKS[32]

    def _computed(self, statement: Statement) -> np.ndarray | None:
        root, kind = statement.parts[0], statement.parts[-1]
        if len(destination(statement)) != 1 or kind[1:] not in ("8", "16", "32", "64") or kind[0] not in "bus":
            return None
        if root == "shfl" and statement.parts[2] == "idx" and statement.operands[2] == "0":
            value = self.of(statement.operands[1])
            return None if value is None else np.repeat(value[::32], 32)
        values = [self.of(word) for word in statement.operands[1:]]
        if any(value is None for value in values):
            return None
        bits = int(kind[1:])
        return _apply(statement, [value for value in values if value is not None], bits)


def _apply(statement: Statement, v: list[np.ndarray], bits: int) -> np.ndarray | None:
    root, kind = statement.parts[0], statement.parts[-1]
    mask, signed = _MASKS[bits], kind[0] == "s"
    if root == "cvt":
        bits = min(int(kind[1:]), int(re.sub(r"\D", "", statement.parts[-2]) or 64))
        if signed:
            return None
        return v[0] & _MASKS[bits]
    cut = [value & mask for value in v]
    if root == "mov":
        return cut[0]
    if root in ("add", "sub"):
        return (cut[0] + cut[1] if root == "add" else cut[0] - cut[1]) & mask
    if root == "and":
        return cut[0] & cut[1]
    if root == "or":
        return cut[0] | cut[1]
    if root == "xor":
        return cut[0] ^ cut[1]
    if root == "shl":
        return (cut[0] << np.minimum(v[1], np.uint64(63))) & mask
    if root == "shr" and not signed:
        return cut[0] >> np.minimum(v[1], np.uint64(63))
    if root == "bfe" and not signed:
        return (cut[0] >> v[1]) & ((np.uint64(1) << v[2]) - np.uint64(1))
    if root in ("mul", "mad") and statement.parts[1] == "lo":
        product = cut[0] * cut[1]
        return (product + v[2] if root == "mad" else product) & mask
    return None


def descriptor_bytes(descriptor: int, rows: int, depth: int, size: int, transposed: bool) -> np.ndarray:
    """Addresses, in units of 16 bytes, that an operand of wgmma covers. size: bytes of an element."""
    width, shift = {0: (16, 0), 1: (128, 7), 2: (64, 3), 3: (32, 1)}[descriptor >> 62]
    start, leading, stride = ((descriptor >> at & 0x3FFF) << 4 for at in (0, 16, 32))
    r, k = np.meshgrid(np.arange(rows), np.arange(depth), indexing="ij")
    if not transposed:
        byte = k * size
        if shift:
            at = start + r // 8 * stride + r % 8 * width + byte % width + byte // width * leading
        else:
            at = start + r // 8 * stride + r % 8 * 16 + byte // 16 * leading + byte % 16
    else:
        per = width // size
        if shift:
            at = start + r % per * size + r // per * leading + k % 8 * width + k // 8 * stride
        else:
            at = start + r % per * size + r // per * stride + k % 8 * 16 + k // 8 * leading
    return np.unique((at ^ ((at >> 7) & shift) << 4) >> 4)


def operand_bytes(values: Values, statement: Statement) -> tuple[set[int], bool]:
    """The units of 16 bytes of shared memory that a wgmma reads, and whether they are all known."""
    words = [word for word in statement.parts[2:] if word not in ("sync", "aligned")]
    shape = re.match(r"m64n(\d+)k(\d+)$", words[0])
    if shape is None:
        raise PtxError(f"not a shape: {words[0]}")
    n, k = int(shape[1]), int(shape[2])
    size = {"tf32": 4, "s8": 1, "u8": 1, "e4m3": 1, "e5m2": 1}.get(words[2], 2)
    rest = [int(word, 0) for word in statement.operands[4:]]
    from_registers = statement.operands[1].startswith("{")
    flags = (0, rest[2]) if size == 2 and from_registers else (rest[2], rest[3]) if size == 2 else (0, 0)
    found: set[int] = set()
    whole = True
    operands = [(statement.operands[2], n, flags[1])]
    if not from_registers:
        operands.append((statement.operands[1], 64, flags[0]))
    for word, rows, transposed in operands:
        value = values.of(word)
        if value is None:
            whole = False
            continue
        for each in np.unique(value):
            found.update(descriptor_bytes(int(each), rows, k, size, bool(transposed)).tolist())
    return found, whole
