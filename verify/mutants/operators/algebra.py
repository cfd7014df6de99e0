"""Faults in the formula: terms, factors, signs, constants, operands and transposes."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from .base import Operator
from .site import Site, called, edited, is_a, operands, parsed

_CONFUSED = (
    ("q", "k"), ("x", "y"), ("e", "y"), ("before", "behind"), ("query", "key"), ("aqk", "a"), ("r", "do"),
    ("s_qk", "s_kk"), ("a_grad", "t_grad"), ("q_grad", "e_grad"), ("e_grad", "k_grad"), ("q_tile", "k_tile"),
    ("gate", "value"), ("inverse", "score"), ("do", "dx"), ("h", "dh"), ("a", "joint"), ("x_grad", "out_grad"),
    ("erase", "query"), ("unit", "value"), ("unit", "grad"), ("inner", "grad"),
)  # fmt: skip


def terms(site: Site) -> Iterator[ast.AST]:
    """An addend is missing."""
    node = site.node
    if not site.in_value:
        return
    if is_a(node, ast.AugAssign) and is_a(node.op, ast.Add | ast.Sub):
        yield ast.Pass()
        yield ast.Assign([ast.Name(getattr(node.target, "id", "_"), ast.Store())], node.value)
    yield from operands(node, ast.Add, ast.Sub)


def factors(site: Site) -> Iterator[ast.AST]:
    """A factor is missing: a gate, a scale."""
    node = site.node
    if not site.in_value:
        return
    if is_a(node, ast.AugAssign) and is_a(node.op, ast.Mult) and getattr(node.target, "id", "") != "span":
        yield ast.Pass()
    yield from operands(node, ast.Mult)


def signs(site: Site) -> Iterator[ast.AST]:
    """A sign is the other one."""
    node = site.node
    if not site.in_value:
        return
    if is_a(node, ast.BinOp | ast.AugAssign) and is_a(node.op, ast.Add | ast.Sub):
        other = ast.Sub if is_a(node.op, ast.Add) else ast.Add
        yield edited(node, lambda tree: setattr(tree, "op", other()))
    if is_a(node, ast.UnaryOp) and is_a(node.op, ast.USub):
        yield node.operand


def constants(site: Site) -> Iterator[ast.AST]:
    """A constant is another: by one, or an exponent or a scale by a thousandth."""
    node = site.node
    if not site.in_value:
        return
    if _is_number(node) and not isinstance(site.parent, ast.keyword) and not _names_an_axis(site):
        yield ast.Constant(node.value + 1)
    if called(node) == "exp":
        yield edited(node, lambda call: call.args.__setitem__(0, parsed("1.001 * x", x=call.args[0])))
    if is_a(node, ast.Name) and node.id in ("scale", "eps") and isinstance(node.ctx, ast.Load):
        yield parsed("1.001 * x", x=node) if node.id == "scale" else parsed("2.0 * x", x=node)


def operand_order(site: Site) -> Iterator[ast.AST]:
    """Operands of a product are swapped, a transpose is missing, or one tensor stands for another."""
    node = site.node
    if called(node) == "trans":
        yield node.args[0]
    if called(node) == "dot":
        yield edited(node, lambda call: call.args.reverse())
    if not (is_a(node, ast.Name) and isinstance(node.ctx, ast.Load) and site.in_value):
        return
    for pair in _CONFUSED:
        if node.id in pair and not isinstance(site.parent, ast.Attribute):
            other = pair[1 - pair.index(node.id)]
            if other in site.names:
                yield ast.Name(other, ast.Load())


def _is_number(node: Any) -> bool:
    return is_a(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool)


def _names_an_axis(site: Site) -> bool:
    return called(site.parent) in ("sum", "cumsum", "trans", "max") and site.node in site.parent.args[1:]


OPERATORS = (
    Operator(name="term", about="an addend dropped, or a sum overwritten", edits=terms),
    Operator(name="factor", about="a gate, scale or other factor missing", edits=factors),
    Operator(name="sign", about="a sign flipped", edits=signs),
    Operator(name="constant", about="a constant changed, some by a thousandth", edits=constants),
    Operator(
        name="operand", about="operands swapped, a transpose missing, one tensor for another", edits=operand_order
    ),
)
