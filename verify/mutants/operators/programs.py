"""Faults in how work is shared, limited and kept: grid axes, last blocks, trips of loops, fixed limits, stale arguments."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from ...cases.call_styles import words
from .base import Operator
from .site import SIZES, Site, called, edited, is_a, parsed

MOST_PLACES = 65535
"""The largest number of 16 bits, at which the second and third axes of a grid end as well."""
MOST_TRIPS = 1024
"""Of a loop over what has been given a fixed room."""

_KEPT = SIZES | {"scale", "length", "tokens", "rows", "size", "count", "INITIAL", "FINAL", "PACKED", "NORMALISE", "RAW"}
"""Arguments that change from call to call, not with the tiles."""
_OF_CHANNELS = ("channel", "column")
"""Places that no tensor has 65,536 of."""


def axes(site: Site) -> Iterator[ast.AST]:
    """A program takes its place along another axis of the grid that the kernel has."""
    own = _axis(site.node)
    if own is not None:
        others = {_axis(node) for node in ast.walk(_function(site))} - {None, own}
        yield from (parsed(f"tl.program_id({axis})") for axis in sorted(others, key=str))


def blocks(site: Site) -> Iterator[ast.AST]:
    """The grid is one program short along an axis, whose last one does what the one before it does; a number of blocks is rounded
    down."""
    node = site.node
    axis = _axis(node)
    if axis is not None:
        yield parsed(f"tl.minimum(x, tl.maximum(tl.num_programs({axis}), 2) - 2)", x=node)
    if called(node) == "cdiv":
        yield parsed("x // y", x=node.args[0], y=node.args[1])


def trips(site: Site) -> Iterator[ast.AST]:
    """A loop runs once, or takes every other step."""
    node = site.node
    if called(node) != "range":
        return
    first, last, step = bounds(node)

    def between(high: Any, stride: Any) -> Any:
        return edited(node, lambda call: setattr(call, "args", [first, high, stride]))

    yield between(_smaller(last, parsed("x + s", x=first, s=step)), step)
    yield between(last, parsed("2 * s", s=step))


def limits(site: Site) -> Iterator[ast.AST]:
    """An offset is left in 32 bits; a place ends at 65,535; a loop has room for 1,024 trips."""
    node = site.node
    if called(node) == "to" and ast.unparse(node.args[0]) == "tl.int64" and called(node.func.value) != "load":
        yield node.func.value  # what is loaded has the width of its tensor
    if (
        is_a(node, ast.BinOp)
        and is_a(node.op, ast.Add)
        and isinstance(site.parent, ast.Assign)
        and getattr(site.parent.targets[0], "id", None) not in _OF_CHANNELS
        and any(_axis(inner) is not None for inner in ast.walk(node.left))
    ):
        yield parsed(f"tl.minimum(x, {MOST_PLACES})", x=node)
    if called(node) == "range":
        first, last, step = bounds(node)
        if not ast.unparse(last).isupper():  # not of channels, which are few
            room = parsed(f"x + {MOST_TRIPS} * s", x=first, s=step)
            yield edited(node, lambda call: setattr(call, "args", [first, _smaller(last, room), step]))


def stale(site: Site) -> Iterator[ast.AST]:
    """An argument keeps the value of the kernel's first launch, as in a captured graph or a cache whose key lacks it."""
    definition: Any = _function(site)
    statements = [x for x in definition.body if not (isinstance(x, ast.Expr) and isinstance(x.value, ast.Constant))]
    if site.node is not statements[0] or all(_axis(node) is None for node in ast.walk(definition)):
        return
    for argument in definition.args.args:
        if argument.arg in _KEPT:
            place = f"{definition.name} {argument.arg}"
            # Not by an assignment, which would make a tensor of a constant.
            text = f"from deltaproof.verify.mutants.kept import first\n({argument.arg} := first({place!r}, {argument.arg}))"
            yield ast.If(ast.Constant(True), [*ast.parse(text).body, site.node], [])


def bounds(loop: Any) -> tuple[Any, Any, Any]:
    """First, end and step of a call of `range`."""
    one = ast.Constant(1)
    if len(loop.args) == 1:
        return ast.Constant(0), loop.args[0], one
    return loop.args[0], loop.args[1], loop.args[2] if len(loop.args) > 2 else one


def _smaller(x: Any, y: Any) -> Any:
    """Of two bounds, which may be constants or tensors."""
    return parsed("x if x < y else y", x=x, y=y)


def _function(site: Site) -> Any:
    return site.ancestors[0]


def _axis(node: Any) -> int | None:
    """The axis of a call of `program_id`."""
    if called(node) != "program_id":
        return None
    given = [*node.args, *(keyword.value for keyword in node.keywords)]
    value = given[0].value if given and isinstance(given[0], ast.Constant) else None
    return value if isinstance(value, int) else None


OPERATORS = (
    Operator(name="axis", about="programs placed along another axis of the grid", edits=axes),
    Operator(name="block", about="the last program of an axis, or the last partial block, left out", edits=blocks),
    Operator(name="trip", about="a loop that runs once, or takes every other step", edits=trips),
    Operator(
        name="limit",
        about="32-bit offsets, at most 65,535 places or 1,024 trips",
        edits=limits,
        likely=lambda test: test.prop == "offsets",
    ),
    Operator(
        name="stale",
        about="an argument kept from the first launch",
        edits=stale,
        likely=lambda test: "varied" in words(test.case.style),
    ),
)
