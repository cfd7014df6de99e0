"""Our operators: faults that people make in kernels, on Python's syntax trees."""

from __future__ import annotations

import ast
from collections.abc import Iterator

from ...verdicts.document import installed_version
from ..mutant import Mutant, Source
from ..operators import OPERATORS
from .base import Engine
from .names import EngineName
from .sites import Naming, exchange, walk


def mutants_of(source: Source) -> Iterator[Mutant]:
    """Every fault of every operator in a function."""
    naming = Naming(EngineName.deltaproof, source)
    for number, site in enumerate(walk(source.tree)):
        before = ast.unparse(site.node)
        for operator in OPERATORS.values():
            for choice, edited in enumerate(operator.edits(site)):
                after = ast.unparse(ast.fix_missing_locations(edited))
                if after != before or operator.name == "store":
                    yield naming.mutant(site, number, operator.name, choice, before, after)


def plant(mutant: Mutant, tree: ast.Module) -> ast.Module:
    """The operator's edit, made again."""
    return exchange(mutant, tree, lambda site: list(OPERATORS[mutant.operator].edits(site))[mutant.choice])


ENGINE = Engine(
    name=EngineName.deltaproof,
    version=lambda: installed_version("deltaproof"),
    operators=lambda: tuple(OPERATORS),
    mutants_of=mutants_of,
    plant=plant,
    likely=lambda mutant, test: OPERATORS[mutant.operator].likely(test),
)
