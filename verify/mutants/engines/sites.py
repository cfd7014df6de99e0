"""The places of a device function that faults can go to, their names, and the exchange of the code at one of them."""

from __future__ import annotations

import ast
import copy
import hashlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from ..mutant import Mutant, Source
from ..operators.site import Site


def walk(tree: ast.Module) -> Iterator[Site]:
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


def exchange(mutant: Mutant, tree: ast.Module, edit: Callable[[Site], ast.AST]) -> ast.Module:
    """A copy of a tree with `edit` of the mutant's place in its stead. Raises ValueError where the source is another by now."""
    tree = copy.deepcopy(tree)
    for number, site in enumerate(walk(tree)):
        if number == mutant.node and ast.unparse(site.node) == mutant.before:
            _Swap(site.node, edit(site)).visit(tree)
            return ast.fix_missing_locations(tree)
    raise ValueError(f"{mutant.id} is not in {mutant.function}: its source has changed")


class Naming:
    """Makes the mutants of one source, and tells those apart that read the same."""

    def __init__(self, engine: str, source: Source) -> None:
        self._engine, self._source = engine, source
        self._seen: dict[str, int] = {}

    def mutant(self, site: Site, number: int, operator: str, choice: int, before: str, after: str) -> Mutant:
        """The fault by which an operator turns the text `before` of a site into `after`. number, choice: as of a mutant."""
        name = self._source.name
        stage, function = name.split(":")[0].rpartition(".")[2], name.rpartition(":")[2]
        words = f"{function}\0{operator}\0{ast.unparse(site.statement)}\0{before}\0{after}"
        self._seen[words] = self._seen.get(words, 0) + 1
        digest = hashlib.sha256(f"{words}\0{self._seen[words]}".encode()).hexdigest()[:8]
        return Mutant(
            engine=self._engine, id=f"{stage}/{function}/{operator}/{digest}",
            function=name, stage=stage, operator=operator, node=number, choice=choice,
            line=getattr(site.node, "lineno", site.statement.lineno), before=before, after=after,
            guards=_guards(site),
        )  # fmt: skip


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
