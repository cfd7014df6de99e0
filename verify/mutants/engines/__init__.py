"""The engines, by name: each has operators, enumerates their faults, and plants one."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from ..mutant import Mutant, Source, Transform
from . import cosmic_ray, own
from .base import Engine

ENGINES: dict[str, Engine] = {engine.name: engine for engine in (own.ENGINE, cosmic_ray.ENGINE)}


def enumerate_mutants(engine: Engine, sources: Iterable[Source]) -> list[Mutant]:
    """Every fault of every operator of an engine, in the order of the sources."""
    return [mutant for source in sources for mutant in engine.mutants_of(source)]


def plant(mutant: Mutant, tree: ast.Module) -> ast.Module:
    """The tree of the mutant's function with the fault in it. Raises ValueError where the source is another by now."""
    return ENGINES[mutant.engine].plant(mutant, tree)


def transform_of(mutant: Mutant) -> Transform:
    """The transform by which `interpreter.session(transform=...)` plants one fault."""

    def transform(name: str, tree: ast.Module) -> ast.Module:
        return plant(mutant, tree) if name == mutant.function else tree

    return transform
