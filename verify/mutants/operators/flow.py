"""Faults in the flow: boundary conditions, loop bounds, branches, initial values."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from .base import Operator
from .site import Site, called, edited, is_a, parsed

_STRICTER: dict[type, type] = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt}


def boundaries(site: Site) -> Iterator[ast.AST]:
    """A comparison includes its bound, or excludes it; an equality is an order."""
    node = site.node
    if not is_a(node, ast.Compare) or len(node.ops) != 1 or (
        isinstance(site.parent, ast.If) and ast.unparse(node).replace("_", "").isupper()
    ):  # fmt: skip
        return
    kind = type(node.ops[0])
    if kind in _STRICTER:
        yield edited(node, lambda tree: tree.ops.__setitem__(0, _STRICTER[kind]()))
        yield edited(node, lambda tree: tree.comparators.__setitem__(0, parsed("x - 1", x=tree.comparators[0])))
    if kind is ast.Eq and not _about_constants(node):
        yield edited(node, lambda tree: tree.ops.__setitem__(0, ast.GtE()))


def loops(site: Site) -> Iterator[ast.AST]:
    """A loop leaves out its first or its last step: truncated series, dropped blocks."""
    node = site.node
    if called(node) not in ("range", "static_range"):
        return
    first, last = (node.args[0], node.args[1]) if len(node.args) > 1 else (ast.Constant(0), node.args[0])
    step = node.args[2] if len(node.args) > 2 else ast.Constant(1)

    def between(low: Any, high: Any) -> Any:
        return edited(node, lambda call: setattr(call, "args", [low, high, *node.args[2:]]))

    yield between(first, parsed("x - s", x=last, s=step))
    yield between(parsed("x + s", x=first, s=step), last)


def branches(site: Site) -> Iterator[ast.AST]:
    """A case that the code treats apart is not treated."""
    node = site.node
    if is_a(node, ast.If):

        def never(tree: Any) -> None:
            tree.test = ast.Constant(False)

        yield edited(node, never)


def initial_values(site: Site) -> Iterator[ast.AST]:
    """A sum starts from one, a carried value from something else than it should."""
    node = site.node
    if called(node) == "zeros":
        yield parsed("tl.full(shape, 1.0, dtype)", shape=node.args[0], dtype=node.args[1])
    if is_a(node, ast.AugAssign) and getattr(node.target, "id", "") == "span":
        yield edited(node, lambda tree: setattr(tree, "value", ast.Constant(4)))
        yield ast.Pass()


def _about_constants(node: ast.Compare) -> bool:
    return any(isinstance(x, ast.Name) and x.id.isupper() and len(x.id) > 2 for x in ast.walk(node))


OPERATORS = (
    Operator(name="boundary", about="< for <=, > for >=, one off", edits=boundaries),
    Operator(name="loop", about="the first or last step of a loop left out", edits=loops),
    Operator(name="branch", about="a special case not treated", edits=branches),
    Operator(name="start", about="a sum or series started wrong", edits=initial_values),
)
