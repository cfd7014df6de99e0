"""Every place in a set of device functions where an operator can plant a fault, and the transform that plants it."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from .operators import OPERATORS
from .operators.site import Site

Transform = Callable[[str, ast.Module], ast.Module]

LONGEST = 140
"""Characters of a piece of code that are shown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """One fault.

    id: `<stage>/<function>/<operator>/<hash>`, the same as long as the text of its line is, and of nothing else.
    function: "module:name" of the device function. stage: the last part of its module's name.
    node, choice: the place in the syntax tree, counted in preorder, and which of the operator's edits of it.
    line: in the source file. before, after: the smallest piece of code that changes.
    guards: texts of the enclosing tests, those of an else branch as `not (...)`.
    """

    id: str
    function: str
    stage: str
    operator: str
    node: int
    choice: int
    line: int
    before: str
    after: str
    guards: tuple[str, ...]

    @property
    def where(self) -> str:
        return f"{self.function}:{self.line}: {_short(self.before)} -> {_short(self.after)}"


def _short(code: str) -> str:
    line = " ".join(code.split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A device function: its "module:name", and its syntax tree as the interpreter runs it."""

    name: str
    tree: ast.Module


def enumerate_mutants(sources: Iterable[Source]) -> list[Mutant]:
    """Every fault of every operator, in the order of the sources. Edits that change no text are left out."""
    return [mutant for source in sources for mutant in _mutants_of(source)]


def transform_of(mutant: Mutant) -> Transform:
    """The transform by which `interpreter.session(transform=...)` plants one fault."""

    def transform(name: str, tree: ast.Module) -> ast.Module:
        return plant(mutant, tree) if name == mutant.function else tree

    return transform


def plant(mutant: Mutant, tree: ast.Module) -> ast.Module:
    """The tree of the mutant's function with the fault in it. Raises ValueError where the source is another by now."""
    tree = copy.deepcopy(tree)
    for number, site in enumerate(_walk(tree)):
        if number == mutant.node and ast.unparse(site.node) == mutant.before:
            edits = list(OPERATORS[mutant.operator].edits(site))
            edited = edits[mutant.choice]
            _Swap(site.node, edited).visit(tree)
            return ast.fix_missing_locations(tree)
    raise ValueError(f"{mutant.id} is not in {mutant.function}: its source has changed")


def _mutants_of(source: Source) -> Iterator[Mutant]:
    stage, function = source.name.split(":")[0].rpartition(".")[2], source.name.rpartition(":")[2]
    seen: dict[str, int] = {}
    for number, site in enumerate(_walk(source.tree)):
        before = ast.unparse(site.node)
        texts = {before}
        for operator in OPERATORS.values():
            for choice, edited in enumerate(operator.edits(site)):
                after = ast.unparse(ast.fix_missing_locations(edited))
                if after in texts and operator.name != "store":
                    continue
                words = f"{function}\0{operator.name}\0{ast.unparse(site.statement)}\0{before}\0{after}"
                seen[words] = seen.get(words, 0) + 1
                digest = hashlib.sha256(f"{words}\0{seen[words]}".encode()).hexdigest()[:8]
                yield Mutant(
                    id=f"{stage}/{function}/{operator.name}/{digest}",
                    function=source.name, stage=stage, operator=operator.name, node=number, choice=choice,
                    line=getattr(site.node, "lineno", site.statement.lineno), before=before, after=after,
                    guards=_guards(site),
                )  # fmt: skip


def _walk(tree: ast.Module) -> Iterator[Site]:
    """Every node of the function's body in preorder, docstring left out."""
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    bound = {argument.arg: 0 for argument in (*definition.args.args, *definition.args.kwonlyargs)}
    for node in ast.walk(definition):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            bound[node.id] = min(node.lineno, bound.get(node.id, node.lineno))

    def visit(node: ast.AST, ancestors: tuple[ast.AST, ...]) -> Iterator[Site]:
        line = getattr(node, "lineno", None) or next(
            line for x in reversed(ancestors) if (line := getattr(x, "lineno", None))
        )
        names = frozenset(name for name, first in bound.items() if first < line)
        yield Site(node=node, ancestors=ancestors, names=names)
        for child in ast.iter_child_nodes(node):
            yield from visit(child, (*ancestors, node))

    for statement in definition.body:
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue
        yield from visit(statement, (definition,))


def _guards(site: Site) -> tuple[str, ...]:
    found = []
    chain = (*site.ancestors, site.node)
    for outer, inner in pairwise(chain):
        if isinstance(outer, ast.If) and inner is not outer.test:
            text = ast.unparse(outer.test)
            found.append(text if inner in outer.body else f"not ({text})")
    return tuple(found)


class _Swap(ast.NodeTransformer):
    def __init__(self, old: ast.AST, new: ast.AST) -> None:
        self._old, self._new = old, new

    def visit(self, node: ast.AST) -> Any:
        return ast.copy_location(self._new, node) if node is self._old else super().visit(node)
