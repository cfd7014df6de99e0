"""The operators of cosmic-ray, a mutation tester for Python: faults by rules that we did not write.

Its core operators work on parso's trees. They get the text of a function as cosmic-ray gives them that of a file. Those with
arguments are left out: it uses them only where a person has chosen the arguments. Whatever they change is then found in our own
tree, so that a fault is planted at the lines of the source, and by processes that do not import cosmic-ray.
"""

from __future__ import annotations

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from itertools import accumulate, pairwise
from typing import Any

from ..mutant import Mutant, Source
from ..operators.site import Site
from .base import Engine
from .difference import code_of, smallest
from .names import EngineName
from .sites import Naming, exchange, walk

_PROVIDER = "core"
"""What cosmic-ray calls its own operators; packages may add others, of which a version would say nothing."""


def version() -> str:
    """Of cosmic-ray. Raises ValueError where it is not installed."""
    try:
        return metadata.version("cosmic-ray")
    except metadata.PackageNotFoundError:
        raise ValueError(
            "engine 'cosmic-ray' needs cosmic-ray, and it is not installed: pip install 'deltaproof[peers]'"
        ) from None


def operators() -> Mapping[str, Any]:
    """Its operators by name, in its order."""
    version()
    return _provided()


@cache
def _provided() -> Mapping[str, Any]:
    provider = import_module("cosmic_ray.operators.provider").OperatorProvider()
    kinds = {f"{_PROVIDER}/{name}": provider[name] for name in provider}
    return {name: kind() for name, kind in kinds.items() if not kind.arguments()}


def mutants_of(source: Source) -> Iterator[Mutant]:
    """Every fault of every operator in a function's body, each once.

    Left out is what is no Python, changes nothing, or changes decorators, annotations and defaults.
    """
    naming = Naming(EngineName.cosmic_ray, source)
    text = ast.unparse(source.tree)
    plain = ast.parse(text)
    places = {
        id(found.node): (number, site)
        for number, (found, site) in enumerate(zip(walk(plain), walk(source.tree), strict=True))
    }
    seen = set()
    for edit in _edits(text):
        try:
            found = smallest(plain, ast.parse(edit.text), edit.lines)
        except SyntaxError:
            continue
        if found is None or id(found[0]) not in places:
            continue
        number, site = places[id(found[0])]
        effect = number, ast.unparse(_Signless().visit(copy.deepcopy(found[1])))
        if effect in seen or _annotates(site):
            continue
        seen.add(effect)
        before, after = (ast.unparse(part) for part in found)
        yield naming.mutant(site, number, edit.operator, edit.occurrence, before, after)


def plant(mutant: Mutant, tree: ast.Module) -> ast.Module:
    """The text after the fault in place of the text before it."""
    return exchange(mutant, tree, lambda site: code_of(mutant.after, site.node))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Edit:
    """One change of a text. occurrence: cosmic-ray's number of it among all of its operator.

    text: the whole after it. lines: those that it may be in.
    """

    operator: str
    occurrence: int
    text: str
    lines: range


def _edits(text: str) -> Iterator[_Edit]:
    trees = import_module("cosmic_ray.ast")
    nodes = list(trees.ast_nodes(trees.get_ast(text)))
    starts = [0, *accumulate(len(line) for line in text.splitlines(keepends=True))]

    def offset(position: tuple[int, int]) -> int:
        return starts[position[0] - 1] + position[1]

    # A plus in place of a minus raises on tensors, and elsewhere is the minus left out: that one is to be kept of the two.
    for name, operator in sorted(operators().items(), key=lambda item: item[0].endswith("_UAdd")):
        positions = [(node, index) for node in nodes for index, _ in enumerate(operator.mutation_positions(node))]
        for occurrence, (node, index) in enumerate(positions):
            # Operators change the node that they are given. The copy has the same parent, not a copy of all that there is.
            edited = operator.mutate(copy.deepcopy(node, {id(node.parent): node.parent}), index)
            code = "" if edited is None else edited.get_code()
            before, after = text[: offset(node.get_start_pos_of_prefix())], text[offset(node.end_pos) :]
            yield _Edit(
                operator=name, occurrence=occurrence, text=f"{before}{code}{after}",
                lines=range(node.start_pos[0], node.end_pos[0] + 1),
            )  # fmt: skip


def _annotates(site: Site) -> bool:
    chain: tuple[Any, ...] = (*site.ancestors, site.node)
    return any(isinstance(outer, ast.AnnAssign) and inner is outer.annotation for outer, inner in pairwise(chain))


class _Signless(ast.NodeTransformer):
    """Takes the plus signs away that change nothing."""

    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.AST:
        self.generic_visit(node)
        return node.operand if isinstance(node.op, ast.UAdd) else node


ENGINE = Engine(
    name=EngineName.cosmic_ray,
    version=version,
    operators=lambda: tuple(operators()),
    mutants_of=mutants_of,
    plant=plant,
)
