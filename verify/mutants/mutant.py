"""A fault, and the device function that it goes into."""

from __future__ import annotations

import ast
from collections.abc import Callable
from dataclasses import dataclass

Transform = Callable[[str, ast.Module], ast.Module]

LONGEST = 140
"""Characters of a piece of code that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault.

    engine: who plants it.
    id: `<stage>/<function>/<operator>/<hash>`, the same as long as the text of its line is, and of nothing else.
    function: "module:name" of the device function. stage: the last part of its module's name.
    node, choice: the place in the syntax tree, counted in preorder, and which of the operator's edits of it.
    line: in the source file. before, after: the smallest piece of code that changes.
    guards: texts of the enclosing tests, those of an else branch as `not (...)`.
    """

    engine: str
    id: str
    function: str
    stage: str
    operator: str
    node: int
    choice: int
    line: int
    before: str
    after: str
    guards: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.function}:{self.line}: {_short(self.before)} -> {_short(self.after)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A device function: its "module:name", and its syntax tree as the interpreter runs it."""

    name: str
    tree: ast.Module


def family(operator: str) -> str:
    """The part before the first underscore: `ReplaceBinaryOperator_Add_Sub` is one of many that replace an operator.

    A family has one turn in a draw and one line in a report. An operator of ours is a family of its own.
    """
    return operator.partition("_")[0]


def _short(code: str) -> str:
    line = " ".join(code.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."
