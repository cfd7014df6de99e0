"""Rules that need no run, only the text of a compiled program, and take milliseconds.

A finding is certain: it names instructions that follow one another on a path and touch the same bytes, as far as the thread's
number and constants decide addresses. Where they do not, as in buffers that a loop takes in turn, running it decides, and a
possible fault is a note.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ..assembly.addresses import Values, destination, operand_bytes, sources
from ..assembly.text import PtxKernel, Statement, parse
from ..finding import Finding

_MOVES = ("mov", "cvt", "selp")


def lint(ptx: str | PtxKernel) -> list[Finding]:
    """Findings of the static rules. Raises PtxError for text that is not a program; unknown instructions do not matter here."""
    kernel = parse(ptx) if isinstance(ptx, str) else ptx
    products = [i for i, s in enumerate(kernel.statements) if s.opcode.startswith("wgmma.mma_async")]
    if not products:
        return []
    values = Values(kernel)
    found = [*_register_fences(kernel)]
    for first, last in _loops(kernel):
        body = range(first, last + 1)
        if any(i in body for i in products):
            found += _waits(kernel, values, first, last)
            found += _proxy_fences(kernel, values, first, last)
    unique = {(f.rule, f.instruction, f.other_instruction): f for f in found}
    return list(unique.values())


def _loops(kernel: PtxKernel) -> Iterator[tuple[int, int]]:
    """First and last statement of every loop."""
    for index, statement in enumerate(kernel.statements):
        if statement.parts[0] == "bra" and (target := kernel.labels.get(statement.operands[-1], index + 1)) <= index:
            yield target, index


def _straight(kernel: PtxKernel, first: int, last: int) -> bool:
    """Whether all of a loop's statements are passed in every turn: it has no branch but the last."""
    return not any(s.parts[0] in ("bra", "brx") for s in kernel.statements[first:last])


def _finding(kernel: PtxKernel, rule: str, at: Statement, other: Statement | None, detail: str = "") -> Finding:
    return Finding(
        rule=rule, kernel=kernel.name, source=at.source, instruction=at.text, other_source=other.source if other else "",
        other_instruction=other.text if other else "", schedule="static", detail=detail,
    )  # fmt: skip


def _writes(statement: Statement) -> str:
    """The operand of a shared address that a statement writes generically, or an empty word."""
    opcode = statement.opcode
    if opcode.startswith(("cp.async.ca.shared", "cp.async.cg.shared", "st.shared", "stmatrix")):
        return statement.operands[0]
    return ""


def _covered(values: Values, statement: Statement) -> set[int] | None:
    """Units of 16 bytes that a store or copy writes, or None where that is not known."""
    address = values.address(_writes(statement))
    return None if address is None else set(np.unique(address >> np.uint64(4)).tolist())


def _waits(kernel: PtxKernel, values: Values, first: int, last: int) -> Iterator[Finding]:
    """Turns of a loop one after another: products that are in flight when the shared memory they read is written."""
    body = kernel.statements[first : last + 1]
    if not any(s.opcode.startswith("wgmma.wait_group") and s.operands[0] != "0" for s in body):
        return
    certain = _straight(kernel, first, last)
    groups: list[list[Statement]] = []
    now: list[Statement] = []
    reads = {id(s): operand_bytes(values, s) for s in body if s.opcode.startswith("wgmma.mma_async")}
    for statement in [*body, *body]:
        opcode = statement.opcode
        if opcode.startswith("wgmma.mma_async"):
            now.append(statement)
        elif opcode.startswith("wgmma.commit_group"):
            groups.append(now)
            now = []
        elif opcode.startswith("wgmma.wait_group"):
            keep = int(statement.operands[0])
            groups = groups[len(groups) - keep :] if keep else []
        elif _writes(statement):
            written = _covered(values, statement)
            for product in (product for group in [*groups, now] for product in group):
                read, _ = reads[id(product)]
                if written is not None and read & written and certain:
                    yield _finding(kernel, "lint-operand-reuse", statement, product)
                    break
            else:
                for product in (product for group in [*groups, now] for product in group):
                    read, whole = reads[id(product)]
                    if written is None or not whole or read & written:
                        yield _finding(kernel, "lint-pending", statement, product)
                        break


def _proxy_fences(kernel: PtxKernel, values: Values, first: int, last: int) -> Iterator[Finding]:
    """A loop that fills shared memory and multiplies its contents, with no fence of the asynchronous proxy in it."""
    body = kernel.statements[first : last + 1]
    if any(s.opcode.startswith("fence.proxy.async") for s in body):
        return
    written = {name for s in body for name in destination(s)}
    for product in body:
        if not product.opcode.startswith("wgmma.mma_async"):
            continue
        read, whole = operand_bytes(values, product)
        descriptors = [word for word in product.operands[1:3] if not word.startswith("{")]
        # A descriptor that the loop computes anew walks over the buffers that the loop fills.
        moving = not whole and any(_varies(kernel, word, written, first, last) for word in descriptors)
        for statement in body:
            if not _writes(statement):
                continue
            covered = _covered(values, statement)
            copies = statement.opcode.startswith("cp.async")
            if (covered is not None and covered & read) or (covered is None and moving and copies):
                yield _finding(kernel, "lint-proxy-fence", product, statement)
                break


def _varies(kernel: PtxKernel, word: str, written: set[str], first: int, last: int) -> bool:
    """Whether a register's value comes from one that the loop carries from turn to turn."""
    body = kernel.statements[first : last + 1]
    outside = kernel.statements[:first]
    carried = {name for s in outside for name in destination(s)} & written
    reached, front = set(), [word]
    defined: dict[str, list[Statement]] = {}
    for statement in body:
        for name in destination(statement):
            defined.setdefault(name, []).append(statement)
    while front:
        name = front.pop()
        if name in reached:
            continue
        reached.add(name)
        if name in carried:
            return True
        for statement in defined.get(name, ()):
            if statement.parts[0] not in ("ld", "ldmatrix", "shfl", "wgmma"):
                front += sources(statement)
    return False


def _register_fences(kernel: PtxKernel) -> Iterator[Finding]:
    """Registers of a product that are written after its fence, within a run of instructions without a branch."""
    starts = set(kernel.labels.values())
    fenced = any(s.opcode.startswith("wgmma.fence") for s in kernel.statements)
    changed: dict[str, Statement] = {}
    for index, statement in enumerate(kernel.statements):
        opcode = statement.opcode
        if index in starts or statement.parts[0] in ("bra", "brx"):
            changed = {}
        if opcode.startswith("wgmma.fence"):
            changed = {}
        elif opcode.startswith("wgmma.mma_async"):
            if not fenced:
                yield _finding(kernel, "lint-register-fence", statement, None, "the program has none")
                return
            names = destination(statement)
            if statement.operands[3] in ("0", "false"):
                names = []  # the accumulator is not read
            if statement.operands[1].startswith("{"):
                names = names + [w.strip() for w in statement.operands[1].strip("{} ").split(",")]
            if by := next((changed[name] for name in names if name in changed), None):
                yield _finding(kernel, "lint-register-fence", statement, by)
        elif statement.parts[0] not in _MOVES:
            changed.update(dict.fromkeys(destination(statement), statement))
