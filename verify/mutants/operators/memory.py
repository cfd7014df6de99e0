"""Faults in loads and stores: masks, addresses, offsets of sequences, layouts, stores."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from .base import Operator
from .site import SIZES, Site, called, edited, is_a, memory_call, operands, parsed

_MISTAKEN = {
    "H": ("HV",), "HV": ("H",), "G": ("H", "HV"), "B": ("H", "HV"), "K": ("V", "C"), "V": ("K", "C"), "C": ("K", "V"),
    "W": ("WP",),
}  # fmt: skip
_HEADS = ("i_h", "i_hv", "i_g", "i_b", "i_n", "i_nh", "j")
_STARTS = ("start", "chunks", "first_chunk", "cu_seqlens", "i_c", "i_n", "t")


def masks(site: Site) -> Iterator[ast.AST]:
    """A mask is gone, or one of its conditions is; a selected value is taken everywhere."""
    node = site.node
    if memory_call(node) and any(keyword.arg == "mask" for keyword in node.keywords):

        def bare(call: Any) -> None:
            call.keywords = [keyword for keyword in call.keywords if keyword.arg not in ("mask", "other")]

        yield edited(node, bare)
    yield from operands(node, ast.BitAnd)
    if called(node) == "where" and isinstance(node.args[2], ast.Constant):
        yield node.args[1]


def strides(site: Site) -> Iterator[ast.AST]:
    """A size in an address is another size, or is forgotten."""
    node = site.node
    if not site.in_address:
        return
    if is_a(node, ast.Name) and node.id in SIZES and isinstance(node.ctx, ast.Load):
        for other in _MISTAKEN[node.id]:
            if other in site.names:
                yield ast.Name(other, ast.Load())
    if is_a(node, ast.BinOp) and is_a(node.op, ast.Mult) and getattr(node.right, "id", None) in SIZES:
        yield node.left


def offsets(site: Site) -> Iterator[ast.AST]:
    """An address is one element further, or a row or column index is one more."""
    node = site.node
    if isinstance(site.parent, ast.Call) and memory_call(site.parent) and node is site.parent.args[0]:
        yield parsed("x + 1", x=node)
    if is_a(node, ast.Subscript) and site.in_address and getattr(node.value, "id", None) in (
        "row", "channel", "column", "token",
    ):  # fmt: skip
        yield parsed("x + 1", x=node)
        yield parsed("x - 1", x=node)


def heads(site: Site) -> Iterator[ast.AST]:
    """The index of a head or a sequence is another's; a division between heads is a remainder, or forgotten."""
    node = site.node
    if is_a(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id in _HEADS:
        yield from (ast.Name(other, ast.Load()) for other in _HEADS[:-1] if other != node.id and other in site.names)
    divides = is_a(node, ast.BinOp) and is_a(node.op, ast.FloorDiv | ast.Mod)
    if divides and getattr(node.left, "id", None) in _HEADS:
        yield node.left
        other: ast.operator = ast.Mod() if is_a(node.op, ast.FloorDiv) else ast.FloorDiv()
        yield ast.BinOp(node.left, other, node.right)


def sequences(site: Site) -> Iterator[ast.AST]:
    """Where a sequence or a chunk begins is left out of an address, or is that of its neighbour."""
    node = site.node
    if is_a(node, ast.BinOp) and is_a(node.op, ast.Add) and getattr(node.left, "id", None) == "start":
        yield node.right
    if called(node) == "load" and isinstance(node.args[0], ast.BinOp):
        pointer = node.args[0]
        base = next(x for x in _nodes(pointer) if isinstance(x, ast.Name))
        if base.id in _STARTS:
            yield edited(node, lambda call: call.args.__setitem__(0, parsed("x + 1", x=pointer)))
            yield edited(node, lambda call: call.args.__setitem__(0, parsed("x", x=base)))
    if is_a(node, ast.Name) and isinstance(node.ctx, ast.Load) and node.id == "i_c" and site.in_address:
        yield parsed("x - 1", x=node)


def layouts(site: Site) -> Iterator[ast.AST]:
    """A tile is addressed as its transpose: rows where columns go, with the other dimension as stride."""
    node = site.node
    if not (is_a(node, ast.BinOp) and is_a(node.op, ast.Add) and is_a(node.left, ast.BinOp)):
        return
    stride, inner = getattr(node.left.right, "id", ""), node.right
    rows = [x.value.id for x in _nodes(node.left.left) if _axis(x) == 0]
    other = {"K": "V", "V": "K"}.get(stride, stride)
    if not is_a(node.left.op, ast.Mult) or not {stride, other} <= SIZES & site.names or _axis(inner) != 1 or not rows:
        return

    def transposed(tree: Any) -> None:
        tree.left.right.id = other
        for x in _nodes(tree.left.left):
            if _axis(x) == 0 and x.value.id == rows[-1]:
                x.value.id, x.slice = inner.value.id, inner.slice
        tree.right = parsed(f"{rows[-1]}[:, None]")

    yield edited(node, transposed)


def _nodes(tree: Any) -> list[Any]:
    return list(ast.walk(tree))


def _axis(node: Any) -> int | None:
    """0 for `x[:, None]`, 1 for `x[None, :]`."""
    if not (is_a(node, ast.Subscript) and is_a(node.slice, ast.Tuple) and is_a(node.value, ast.Name)):
        return None
    if len(node.slice.elts) != 2:
        return None
    return 0 if isinstance(node.slice.elts[0], ast.Slice) else 1


def stores(site: Site) -> Iterator[ast.AST]:
    """A result is not written at all, or not in its first row or column."""
    node = site.node
    if is_a(node, ast.Expr) and memory_call(node.value) == "store":
        yield ast.Pass()
    if memory_call(node) == "store":
        for keyword in node.keywords:
            axes = [x for x in _nodes(keyword.value) if _axis(x) is not None]
            if keyword.arg == "mask" and axes:
                name = axes[0].value.id
                text = f"m & ({name}{'[:, None]' if _axis(axes[0]) == 0 else '[None, :]'} > 0)"

                def narrower(call: Any, text: str = text) -> None:
                    for own in call.keywords:
                        if own.arg == "mask":
                            own.value = parsed(text, m=own.value)

                yield edited(node, narrower)


def widths(site: Site) -> Iterator[ast.AST]:
    """An offset is computed in too few bits: in 8 instead of 32, as it would be in 32 instead of 64 for large tensors."""
    node, outer = site.node, site.parent
    if not (isinstance(outer, ast.BinOp) and isinstance(outer.op, ast.Add) and node is outer.right and site.in_address):
        return
    names = {x.id for x in _nodes(node) if isinstance(x, ast.Name)}
    large = names & SIZES or any(name == "at" or name.endswith("_at") for name in names)
    large = large and not names <= SIZES  # an expression of sizes alone is known before the kernel runs
    whole = site.ancestors[-2]
    if isinstance(outer.left, ast.Name) and large and (memory_call(whole) or isinstance(whole, ast.Assign)):
        yield parsed("x.to(tl.int8)", x=node)


OPERATORS = (
    Operator(name="mask", about="a mask dropped or weakened", edits=masks),
    Operator(name="stride", about="a stride swapped with another or forgotten", edits=strides),
    Operator(name="offset", about="an index off by one", edits=offsets),
    Operator(name="head", about="the wrong head or sequence", edits=heads),
    Operator(name="sequence", about="the offset of a sequence or chunk dropped or shifted", edits=sequences),
    Operator(name="layout", about="a tile or state addressed as its transpose", edits=layouts),
    Operator(name="store", about="an output not written, or not all of it", edits=stores),
    Operator(name="width", about="an offset computed in too few bits", edits=widths),
)
