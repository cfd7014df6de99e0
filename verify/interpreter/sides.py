"""The masks and branches of device code, marked in its syntax tree so that `covering` sees which way each went.

A site is named by its function and its line from the first of the definition, with a number for a second one of the line.
"""

from __future__ import annotations

import ast
from collections import Counter
from typing import Any

MASK, BRANCH = "__deltaproof_mask__", "__deltaproof_branch__"
"""Names in the globals of device code, of `covering.note_mask` and `covering.note_branch`."""

_PLACES = {"load": 1, "store": 2} | dict.fromkeys(
    ("atomic_add", "atomic_and", "atomic_max", "atomic_min", "atomic_or", "atomic_xchg", "atomic_xor"), 2
)
"""The place of the mask among the arguments of what takes one."""


class Marking(ast.NodeTransformer):
    """Wraps each mask and each test of a branch. first: the line of the definition."""

    def __init__(self, function: str, first: int) -> None:
        self._function, self._first = function, first
        self._met: Counter[str] = Counter()

    def visit_Call(self, node: ast.Call) -> Any:
        self.generic_visit(node)
        place = _PLACES.get(node.func.attr) if isinstance(node.func, ast.Attribute) else None
        if place is None:
            return node
        if len(node.args) > place:
            node.args[place] = self._marked(MASK, "mask", node.args[place])
        for keyword in node.keywords:
            if keyword.arg == "mask":
                keyword.value = self._marked(MASK, "mask", keyword.value)
        return node

    def visit_If(self, node: ast.If) -> Any:
        return self._branch(node)

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        return self._branch(node)

    def _branch(self, node: ast.If | ast.IfExp) -> Any:
        node.test = self._marked(BRANCH, "branch", node.test)
        return self.generic_visit(node)

    def _marked(self, name: str, sort: str, value: ast.expr) -> ast.expr:
        if isinstance(value, ast.Constant):
            return value
        site = f"{sort} {self._function}:{value.lineno - self._first}"
        self._met[site] += 1
        site += f".{self._met[site]}" if self._met[site] > 1 else ""
        call = ast.Call(
            func=ast.Name(id=name, ctx=ast.Load()),
            args=[value, ast.Constant(value=f"on {site}"), ast.Constant(value=f"off {site}")],
            keywords=[],
        )
        return ast.copy_location(call, value)
