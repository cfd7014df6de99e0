"""A node of a device function with its surroundings, and questions that operators ask about it."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

SIZES = frozenset({"H", "HV", "G", "B", "K", "V", "C", "W"})
"""Names of sizes that addresses are made of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """node: where the fault may go. ancestors: from the function's definition down. names: bound by the function before."""

    node: Any
    ancestors: tuple[ast.AST, ...]
    names: frozenset[str]

    @property
    def parent(self) -> Any:
        return self.ancestors[-1]

    @property
    def statement(self) -> ast.stmt:
        """The innermost statement; of an `if` or `for` only its head counts as its own."""
        return next(node for node in (self.node, *reversed(self.ancestors)) if isinstance(node, ast.stmt))

    @property
    def in_address(self) -> bool:
        """Whether the node is part of the address of a load or store, or of an offset kept in a variable for it."""
        chain: tuple[Any, ...] = (*self.ancestors, self.node)
        for outer, inner in pairwise(chain):
            if memory_call(outer) is not None and inner is outer.args[0]:
                return True
            if isinstance(outer, ast.Assign) and inner is outer.value and _is_offset(outer.targets[0]):
                return True
        return False

    @property
    def in_mask(self) -> bool:
        """Whether the node is part of a mask, of a condition, or of a comparison kept in a variable."""
        chain: tuple[Any, ...] = (*self.ancestors, self.node)
        for outer, inner in pairwise(chain):
            if isinstance(outer, ast.Compare) or (isinstance(outer, ast.If) and inner is outer.test):
                return True
            if isinstance(outer, ast.keyword) and outer.arg in ("mask", "other"):
                return True
        return False

    @property
    def in_value(self) -> bool:
        """Whether the node takes part in the arithmetic of values: not in addresses, masks, subscripts or sizes."""
        chain: tuple[Any, ...] = (*self.ancestors, self.node)
        for outer, inner in pairwise(chain):
            if isinstance(outer, ast.Subscript) and inner is outer.slice:
                return False
            if isinstance(outer, ast.For) and inner is outer.iter:
                return False
            if isinstance(outer, ast.Assign) and _is_integer(outer.targets[0]):
                return False
            if called(outer) in ("zeros", "full", "arange", "program_id", "broadcast_to", "gather"):
                return False
        return not self.in_address and not self.in_mask


def is_a(node: Any, kinds: Any) -> bool:
    """isinstance, from which a type checker concludes nothing: nodes of every kind pass through the same lines."""
    return isinstance(node, kinds)


def memory_call(node: Any) -> str | None:
    """ "load" or "store" for a call of either."""
    name = called(node)
    return name if name in ("load", "store") else None


def called(node: Any) -> str | None:
    """The last part of the name of the function that a call calls."""
    if not isinstance(node, ast.Call):
        return None
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", None)


def edited(node: Any, change: Callable[[Any], Any]) -> Any:
    """A copy of a node after `change`, which returns a node in its place or None for the copy itself."""
    other = copy.deepcopy(node)
    return change(other) or other


def parsed(text: str, **parts: ast.AST) -> Any:
    """The expression `text`, with copies of nodes for the names in `parts`."""

    class Fill(ast.NodeTransformer):
        def visit_Name(self, node: ast.Name) -> Any:
            return copy.deepcopy(parts[node.id]) if node.id in parts else node

    return Fill().visit(ast.parse(text, mode="eval").body)


def operands(node: Any, *kinds: type) -> Iterator[ast.expr]:
    """The two sides of a binary operation of one of the kinds."""
    if isinstance(node, ast.BinOp) and isinstance(node.op, kinds):
        yield node.left
        yield node.right


def _is_offset(target: ast.expr) -> bool:
    return isinstance(target, ast.Name) and (target.id == "at" or target.id.endswith("_at"))


def _is_integer(target: ast.expr) -> bool:
    integers = ("row", "channel", "column", "token", "block", "half", "first", "lower_half", "rows", "start", "upper")
    return isinstance(target, ast.Name) and (target.id in integers or target.id.startswith("i_"))
