"""Planted faults that are none, shown from the program alone: on no path is there anything that the statement had to order.

Each proof is of the text, for every path and every input; a fault of which none is found may be one that was missed.
"""

from __future__ import annotations

import math
import re

from ..assembly.text import PtxKernel, Statement
from .flow import ahead, before
from .threads import Grid, always, values

_REGISTER = re.compile(r"%[a-z]+\d+")
_WRITES_SHARED = ("st.shared", "stmatrix", "cp.async.c", "cp.async.bulk", "atom.shared", "red.shared")
_READS_SHARED = ("ld.shared", "ldmatrix", "wgmma.mma_async", "cp.async.bulk", "atom.shared")
_MEETINGS = ("bar.", "barrier.", "mbarrier.")
_MOST = 8


def reason(kernel: PtxKernel, index: int, after: Statement, grid: Grid) -> str:
    """Why a program whose statement at `index` is `after` instead is the same, in launches of this grid.

    "" where no proof is known.
    """
    was = kernel.statements[index]
    if was.opcode.startswith("wgmma.wait_group"):
        return _wait(kernel, index)
    if was.opcode.startswith("fence.proxy.async"):
        return _proxy(kernel, index)
    if was.opcode.startswith("wgmma.fence"):
        return _fence(kernel, index)
    if was.opcode.startswith("bar.sync"):
        return _barrier(kernel, index)
    if was.parts[0] == "setp" and _never_equal(kernel, was, grid):
        return "what it compares is equal in no thread"
    if was.predicate and not after.predicate and always(kernel, was.predicate, grid):
        return "its predicate is true in every thread"
    return _unused(kernel, index, after)


def _wait(kernel: PtxKernel, index: int) -> str:
    """Nothing is in flight there, or all is waited for again before anything touches the operands or results of a product."""
    statements = kernel.statements
    allowed = int(statements[index].operands[0])

    def step(at: int, state: tuple[int, frozenset[int]]) -> tuple[int, frozenset[int]]:
        pending, products = state
        opcode = statements[at].opcode
        if opcode.startswith("wgmma.mma_async"):
            return pending, products | {at}
        if opcode.startswith("wgmma.commit_group"):
            return min(pending + 1, _MOST), products
        if opcode.startswith("wgmma.wait_group"):
            left = int(statements[at].operands[0])
            return min(pending, left), frozenset() if left == 0 else products
        return state

    found = before(kernel, (0, frozenset[int]()), step, lambda a, b: (max(a[0], b[0]), a[1] | b[1]))[index]
    if found is None:
        return "it is never reached"
    pending, products = found
    if pending <= allowed:
        return f"no more than {pending} groups are in flight there"
    held = {name for at in products for name in _registers_of_product(statements[at])}
    accumulators = {statements[at].operands[0] for at in products}

    def waits_again(at: int) -> bool:
        opcode = statements[at].opcode
        return opcode.startswith("wgmma.wait_group") and int(statements[at].operands[0]) <= allowed and at != index

    for at in ahead(kernel, index, waits_again):
        statement = statements[at]
        ends = statement.parts[0] in ("ret", "exit")
        if statement.opcode.startswith((*_WRITES_SHARED, *_MEETINGS)) or ends or at == index:
            return ""
        named = _names(statement)
        if statement.opcode.startswith("wgmma.mma_async") and statement.operands[0] in accumulators:
            # Products of one shape may follow each other on one accumulator.
            named = _REGISTER.findall(statement.operands[1])
        if held & set(named):
            return ""
    return "all is waited for again before a register or a byte that a product uses is touched"


def _proxy(kernel: PtxKernel, index: int) -> str:
    """No warp has written to shared memory since the last fence, or nothing asynchronous reads it before the next."""
    statements = kernel.statements

    def step(at: int, dirty: bool) -> bool:
        opcode = statements[at].opcode
        return opcode.startswith(_WRITES_SHARED) or (dirty and not opcode.startswith("fence.proxy.async"))

    # Warps that meet at a barrier come from the same statement before it, so a fact that holds there for one holds for all.
    if not before(kernel, False, step, lambda a, b: a or b)[index]:
        return "nothing was written to shared memory since the last fence"

    def fenced(at: int) -> bool:
        return at != index and statements[at].opcode.startswith("fence.proxy.async")

    reads = ("wgmma.mma_async", "cp.async.bulk")
    if any(statements[at].opcode.startswith(reads) or at == index for at in ahead(kernel, index, fenced)):
        return ""
    return "nothing asynchronous reads shared memory before the next fence"


def _fence(kernel: PtxKernel, index: int) -> str:
    """No register of a product has been touched since the last fence, or no product follows before the next."""
    statements = kernel.statements
    named = {
        name
        for statement in statements
        if statement.opcode.startswith("wgmma.mma_async")
        for name in _registers_of_product(statement)
    }

    def step(at: int, state: tuple[bool, bool]) -> tuple[bool, bool]:
        statement = statements[at]
        if statement.opcode.startswith("wgmma.fence") and at != index:
            return True, False
        touched = not statement.opcode.startswith("wgmma.") and bool(named & set(_names(statement)))
        return state[0], state[1] or touched

    found = before(kernel, (False, False), step, lambda a, b: (a[0] and b[0], a[1] or b[1]))[index]
    if found is None or (found[0] and not found[1]):
        return "no register of a product was touched since the last fence"

    def fenced(at: int) -> bool:
        return at != index and statements[at].opcode.startswith("wgmma.fence")

    products = (at for at in ahead(kernel, index, fenced) if statements[at].opcode.startswith("wgmma.mma_async"))
    return "" if any(True for _ in products) else "no product follows before the next fence"


def _barrier(kernel: PtxKernel, index: int) -> str:
    """Between it and the barriers on one side of it no warp touches memory that others see."""
    statements = kernel.statements
    if math.prod(kernel.threads) == 32:
        return "there is one warp"

    def meets(at: int) -> bool:
        return (
            statements[at].opcode == statements[index].opcode and statements[at].operands == statements[index].operands
        )

    def touches(at: int) -> bool:
        opcode = statements[at].opcode
        shared = opcode.startswith((*_WRITES_SHARED, *_READS_SHARED, "cp.async", "wgmma", "fence", *_MEETINGS))
        return shared or opcode.startswith(("st.", "ld.global", "atom", "red.")) or at == index

    behind = list(ahead(kernel, index, meets))
    if not any(touches(at) or statements[at].parts[0] in ("ret", "exit") for at in behind):
        return "nothing is touched before the next barrier"
    clean = before(
        kernel,
        False,
        lambda at, known: (meets(at) and at != index) or (known and not touches(at)),
        lambda a, b: a and b,
    )[index]
    return "nothing was touched since the last barrier" if clean else ""


def _never_equal(kernel: PtxKernel, comparison: Statement, grid: Grid) -> bool:
    """Whether both sides are decided by the thread alone, and differ in every one."""
    if not comparison.opcode.endswith("32"):
        return False
    one, other = (values(kernel, operand, grid) for operand in comparison.operands[1:3])
    return one is not None and other is not None and not (one == other).any()


def _unused(kernel: PtxKernel, index: int, after: Statement) -> str:
    """The statement's result is overwritten or dropped before anything reads it."""
    was = kernel.statements[index]
    if was.opcode.startswith(("st", "wgmma", "cp.", "bar", "atom", "red", "bra")):
        return ""
    results = {*_REGISTER.findall(was.operands[0]), *_REGISTER.findall(after.operands[0])}

    def reads(at: int) -> set[str]:
        statement = kernel.statements[at]
        used = {name for operand in statement.operands[1:] for name in _REGISTER.findall(operand)}
        first = statement.operands[0] if statement.operands else ""
        if statement.opcode.startswith(("st", "wgmma", "mma", "cp", "red", "bra")) or "[" in first:
            used |= set(_REGISTER.findall(first))
        return used | set(_REGISTER.findall(statement.predicate))

    for name in results:

        def written(at: int, name: str = name) -> bool:
            statement = kernel.statements[at]
            first = statement.operands[0] if statement.operands else ""
            return not statement.predicate and name in _REGISTER.findall(first) and name not in reads(at)

        if any(name in reads(at) for at in ahead(kernel, index, written)):
            return ""
    return "nothing reads what it computes"


def _registers_of_product(statement: Statement) -> set[str]:
    """Accumulator and fragments; descriptors and the predicate are read when it is issued."""
    groups = (operand for operand in statement.operands if operand.startswith("{"))
    return {name for group in groups for name in _REGISTER.findall(group)}


def _names(statement: Statement) -> list[str]:
    return [name for operand in statement.operands for name in _REGISTER.findall(operand)] + _REGISTER.findall(
        statement.predicate
    )
