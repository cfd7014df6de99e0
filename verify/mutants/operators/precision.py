"""Faults of precision: an intermediate passes through a narrower type, a product is rounded."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from .base import Operator
from .site import Site, called, edited, is_a, parsed


def round_trips(site: Site) -> Iterator[ast.AST]:
    """A computed value goes to bf16 and back; the operands of a product are rounded to tf32."""
    node = site.node
    if called(node) in ("dot", "exp", "sum", "cumsum", "rsqrt", "log"):
        yield parsed("x.to(tl.bfloat16).to(tl.float32)", x=node)
    if called(node) == "to" and site.in_value and ast.unparse(node.args[0]) == "tl.float32":
        yield parsed("x.to(tl.bfloat16).to(tl.float32)", x=node)
    if is_a(node, ast.AugAssign) and isinstance(node.target, ast.Name) and site.in_value and node.target.id != "span":
        # An accumulator kept in bf16.
        total = ast.BinOp(ast.Name(node.target.id, ast.Load()), node.op, node.value)
        yield ast.Assign([node.target], parsed("(x).to(tl.bfloat16).to(tl.float32)", x=total))
    if called(node) == "dot":
        for keyword in node.keywords:
            if keyword.arg == "input_precision":
                yield edited(
                    node, lambda call: [setattr(k, "value", ast.Constant("tf32")) for k in call.keywords] and None
                )


OPERATORS = (Operator(name="precision", about="an intermediate rounded to bf16, a product to tf32", edits=round_trips),)
