"""Where two syntax trees differ: the smallest piece of code that stands for the difference."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any


def smallest(old: ast.AST, new: ast.AST, lines: range) -> tuple[ast.AST, ast.AST] | None:
    """The smallest part of `old`, and what it is in `new`, without which the trees are equal; None where they are.

    It is a statement, or an expression that is read, whose text says all of it; failing that, the whole.
    lines: of both; statements outside of them are known to be equal.
    """
    found = _nested(old, new, lines)
    return next((pair for pair in found if _stands_alone(*pair)), found[-1]) if found else None


def code_of(text: str, like: ast.AST) -> ast.AST:
    """A piece of code of the kind of `like`, a statement or an expression, at its place. Raises SyntaxError."""
    made = ast.parse(text, mode="eval").body if isinstance(like, ast.expr) else ast.parse(text).body[0]
    for node in ast.walk(made):
        ast.copy_location(node, like)
    return made


def _nested(old: ast.AST, new: ast.AST, lines: range) -> list[tuple[ast.AST, ast.AST]]:
    """All parts that differ and lie within one another, the innermost first."""
    if type(old) is not type(new):
        return [(old, new)]
    if isinstance(old, ast.stmt) and (old.lineno >= lines.stop or (old.end_lineno or old.lineno) < lines.start):
        return []
    wrong = []
    for one, other in _children(old, new):
        if isinstance(one, ast.AST) and isinstance(other, ast.AST):
            wrong += [pairs] if (pairs := _nested(one, other, lines)) else []
        elif one != other or type(one) is not type(other):
            return [(old, new)]
    inner = wrong[0] if len(wrong) == 1 else []
    return [*inner, (old, new)] if wrong else []


def _children(old: ast.AST, new: ast.AST) -> Iterator[tuple[Any, Any]]:
    """The fields of two nodes of one type, elements of lists one by one where there are as many."""
    for name in old._fields:
        one, other = getattr(old, name, None), getattr(new, name, None)
        if isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
            yield from zip(one, other, strict=True)
        else:
            yield one, other


def _stands_alone(old: ast.AST, new: ast.AST) -> bool:
    if isinstance(old, ast.expr) and isinstance(new, ast.expr):
        if not isinstance(getattr(old, "ctx", ast.Load()), ast.Load):
            return False
    elif not (isinstance(old, ast.stmt) and isinstance(new, ast.stmt)):
        return False
    try:
        return ast.dump(code_of(ast.unparse(new), old)) == ast.dump(new)
    except SyntaxError:  # a slice, which only a subscript makes whole
        return False
