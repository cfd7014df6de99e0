"""Facts that hold at a statement whichever way a program came there, or goes on from there."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from ..assembly.text import PtxKernel

State = TypeVar("State")


def successors(kernel: PtxKernel, index: int) -> tuple[int, ...]:
    """The statements that may follow one; none behind the end."""
    statement = kernel.statements[index]
    following = (index + 1,) if index + 1 < len(kernel.statements) else ()
    if statement.parts[0] == "bra":
        to = kernel.labels.get(statement.operands[-1])
        target = () if to is None or to >= len(kernel.statements) else (to,)
        return (*following, *target) if statement.predicate else target
    if statement.parts[0] in ("ret", "exit") and not statement.predicate:
        return ()
    return following


def before(
    kernel: PtxKernel, start: State, step: Callable[[int, State], State], join: Callable[[State, State], State]
) -> list[State | None]:
    """The state before each statement: `start` at the entry, `step` past a statement, `join` where two paths meet. None where no
    path leads. `join` may only ever grow, up to a limit."""
    found: list[State | None] = [None] * len(kernel.statements)
    found[0] = start
    waiting = [0]
    while waiting:
        index = waiting.pop()
        known = found[index]
        assert known is not None, "only what was reached waits"
        after = step(index, known)
        for following in successors(kernel, index):
            old = found[following]
            new = after if old is None else join(old, after)
            if new != old:
                found[following] = new
                waiting.append(following)
    return found


def ahead(kernel: PtxKernel, index: int, ends: Callable[[int], bool]) -> Iterable[int]:
    """The statements that may run after one until `ends` says that a way is over; the one that ends it is not among them."""
    seen: set[int] = set()
    waiting = list(successors(kernel, index))
    while waiting:
        following = waiting.pop()
        if following in seen or ends(following):
            continue
        seen.add(following)
        yield following
        waiting += successors(kernel, following)
