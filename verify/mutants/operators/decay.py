"""Faults in the handling of decays: the row before, the other side of a gate, the other direction of a sum."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .base import Operator
from .site import Site, called, edited, is_a, parsed

_SIDES = ("here", "after", "up", "down", "prefix", "suffix", "lower", "upper", "total", "factor")
_PAIRS = {
    "here": ("after",), "after": ("here",), "up": ("down",), "down": ("up",), "prefix": ("suffix",),
    "suffix": ("prefix",), "lower": ("upper",), "upper": ("lower",),
}  # fmt: skip


def decays(site: Site) -> Iterator[ast.AST]:
    """A decay is that of another row, or sits on the other side, or is left out."""
    node = site.node
    if is_a(node, ast.Name) and isinstance(node.ctx, ast.Load):
        for other in _PAIRS.get(node.id, ()):
            if other in site.names:
                yield ast.Name(other, ast.Load())
    if called(node) == "cumsum":
        backward = any(keyword.arg == "reverse" for keyword in node.keywords)

        def turned(call: ast.Call) -> None:
            call.keywords = [] if backward else [ast.keyword("reverse", ast.Constant(True))]

        yield edited(node, turned)
        yield node.args[0]
    if called(node) == "exp" and isinstance(node.args[0], ast.Name):
        # The row's own decay counts twice, or not at all.
        yield ast.BinOp(node, ast.Mult(), node)
        yield parsed("tl.exp(0.0 * x)", x=node.args[0])
    if (
        is_a(node, ast.Tuple)
        and len(node.elts) > 1
        and isinstance(node.ctx, ast.Load)
        and isinstance(site.parent, ast.Return)
    ):
        yield edited(node, lambda tree: tree.elts.__setitem__(slice(0, 2), [tree.elts[1], tree.elts[0]]))


OPERATORS = (Operator(name="decay", about="a decay stale, shifted, on the other side or left out", edits=decays),)
