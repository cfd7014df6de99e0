"""Traits of a launch's source and assembly that compilers are known to stumble over.

recurrence          a loop of a length that only the call knows accumulates products
chained_dots        one loop adds two products or more to the same accumulator
transposed_product  the transpose of a product is used
unit_argument       an integer argument is 1, which Triton makes a constant of the kernel
register_wgmma      a wgmma takes its first operand from registers
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch

_REGISTER_WGMMA = re.compile(r"wgmma\.mma_async\S*\s*\{[^}]*\}\s*,\s*\{")


def source_traits(launch: Launch) -> tuple[tuple[str, ...], int]:
    """The traits of a launch's source, and its number of `tl.dot`, both with all that the kernel calls."""
    found: set[str] = set()
    constants = {parameter.name for parameter in launch.kernel.params if parameter.is_constexpr}
    dots = 0
    for function in _functions(launch.kernel):
        dots += sum(map(_is_dot, ast.walk(function)))
        products = {target for target, value in _assignments(function) if any(map(_is_dot, ast.walk(value)))}
        for loop in (node for node in ast.walk(function) if isinstance(node, ast.For | ast.While)):
            sums = _sums(loop.body)
            if max(sums.values(), default=0) > 1:
                found.add("chained_dots")
            if +sums and not _names(loop.iter if isinstance(loop, ast.For) else loop.test) <= {
                *constants,
                "range",
                "tl",
            }:
                found.add("recurrence")
        for call in _calls(function, "trans"):
            if any(_names(argument) & products for argument in call.args):
                found.add("transposed_product")
    plain = (launch.arguments[parameter.name] for parameter in launch.kernel.params if not parameter.is_constexpr)
    if any(type(value) is int and value == 1 for value in plain):
        found.add("unit_argument")
    return tuple(sorted(found)), dots


def assembly_traits(assembly: str) -> tuple[str, ...]:
    """The traits of PTX, or of AMD's assembly, which has none."""
    return ("register_wgmma",) if _REGISTER_WGMMA.search(assembly) else ()


def _functions(kernel: Any, seen: set[str] | None = None) -> Iterator[ast.FunctionDef]:
    """The definitions of a kernel and of the kernels it calls."""
    seen = set() if seen is None else seen
    seen.add(kernel.__name__)
    (function,) = ast.parse(textwrap.dedent(inspect.getsource(kernel.fn))).body
    assert isinstance(function, ast.FunctionDef)
    yield function
    for name in sorted(_names(function)):
        callee = kernel.fn.__globals__.get(name)
        if type(callee) is type(kernel) and callee.__name__ not in seen:
            yield from _functions(callee, seen)


def _is_dot(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "dot"


def _calls(tree: ast.AST, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == name:
            yield node


def _assignments(tree: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of every assignment to a plain name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            yield node.target.id, node.value
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    yield target.id, node.value


def _sums(body: Sequence[ast.stmt], before: Counter[str] | None = None) -> Counter[str]:
    """How many products in a row each name takes up in one pass through these statements; of branches, one is taken."""
    found = Counter(before or {})
    for statement in body:
        if isinstance(statement, ast.If):
            found = _sums(statement.body, found) | _sums(statement.orelse, found)
        elif isinstance(statement, ast.For | ast.While):
            found = _sums(statement.body, found)
        elif any(map(_is_dot, ast.walk(statement))):
            if isinstance(statement, ast.AugAssign) and isinstance(statement.target, ast.Name):
                found[statement.target.id] += 1
            elif isinstance(statement, ast.Assign) and isinstance(name := statement.targets[0], ast.Name):
                added = name.id in _added(statement.value)
                found[name.id] = found[name.id] + 1 if added else int(_is_dot(statement.value))
    return found


def _added(value: ast.expr) -> set[str]:
    """Names in an expression that are not operands of a product: a product is added to them."""
    if _is_dot(value):
        assert isinstance(value, ast.Call)
        rest = [*value.args[2:], *(keyword.value for keyword in value.keywords if keyword.arg == "acc")]
        return set().union(*map(_names, rest))
    if isinstance(value, ast.Name):
        return {value.id}
    children = (child for child in ast.iter_child_nodes(value) if isinstance(child, ast.expr))
    return set().union(*map(_added, children))


def _names(tree: ast.AST) -> set[str]:
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
