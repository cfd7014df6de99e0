"""The cases that every cell of a profile meets before any are drawn: problems that broke kernels before, and pairs of options."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from ...kernels.configs.launch_config import STAGES, LaunchConfig
from ...specs.problem import DTYPES, DType, Problem
from ...specs.rule import NAMED, Rule
from ..cases import pairwise, production, regressions
from ..cases.call_styles import shared
from ..cases.cell import Cell
from ..cases.profiles import Profile
from ..cases.replay import Case
from ..cases.strategies import filled, regimes_of
from ..cases.target_names import is_package
from ..properties.base import Property
from .served_cases import served_at, with_fewer_states

_TAIL = 13
"""Tokens after the last whole chunk."""


def known_cases(cell: Cell, prop: Property, kernel: Any, profile: Profile, seed: int) -> list[Case]:
    """The profile's share of the regressions and of the pairs of options; which part of them differs from cell to cell."""
    rule = NAMED[cell.rule]
    if prop.styles:
        return _in_styles(cell, prop, kernel, profile)

    def share(problems: Iterable[Problem], count: int) -> list[Problem]:
        drawn = (adapt_problem(prop, kernel, problem) for problem in problems)
        able = [
            problem
            for problem in drawn
            if (kernel is None or kernel.accepts(problem) is True) and prop.applies(kernel, problem) is None
        ]
        start = cell.seed(seed) % max(1, len(able))
        return (able[start:] + able[:start])[:count]

    # Regressions are problems that broke kernels of this family before: a package meets all of them.
    known = regressions.problems(rule)
    chosen = share(known.values(), len(known) if is_package(cell.target) else profile.regressions)
    chosen += share(pairwise.problems(rule), profile.pairs if prop.pairs else 0)
    cases = [Case(problem=problem, config=_config(kernel, problem, index)) for index, problem in enumerate(chosen)]
    return cases + _in_production(cell, prop, kernel, profile)


def _in_styles(cell: Cell, prop: Property, kernel: Any, profile: Profile) -> list[Case]:
    """The cell's share of the lattice of call styles; together the rules of a kernel have all of it."""
    problem = production.small(NAMED[cell.rule], lambda one: _takes(kernel, prop, one))
    if problem is None:
        return []
    rules = cell.shared() if cell.rule in cell.shared() else (cell.rule,)
    lattice = shared(rules, kernel.differentiable, keeps=bool(kernel.keeping))
    mine = [style for style, rule in lattice.items() if rule == cell.rule]
    count, start = min(profile.styles, len(mine)), cell.seed(0)
    # Spread over the lattice, whose first rows hold most words.
    taken = [mine[(start + index * len(mine) // count) % len(mine)] for index in range(count)]
    whole = production.small(NAMED[cell.rule], lambda one: _takes(kernel, prop, one), gated=True) or problem
    return [
        Case(
            problem=replace((problem, whole)[index % 2], seed=index),
            config=_config(kernel, problem, index),
            style=style,
        )
        for index, style in enumerate(taken)
    ]


def _in_production(cell: Cell, prop: Property, kernel: Any, profile: Profile) -> list[Case]:
    """The production shapes that are this rule's to meet: as tables serve them, or in the smallest tiles, since more of them are
    then at work."""
    names = [name for name in profile.shapes if name in prop.shapes]
    if kernel is None or not names:
        return []
    rule, cases = NAMED[cell.rule], []
    for shape in production.assigned(names, rule, cell.shared(), cell.kernel):
        # Of these the call style `endless` asks for many tokens.
        plain = {} if kernel.needs_triton or rule.decay == "none" else shape.plain
        shape = replace(shape, fields={**shape.fields, **plain})
        problem = production.problem(shape, rule, lambda one: _takes(kernel, prop, one))
        if problem is not None:
            configs = served_at(kernel, problem) if shape.served else ()
            cases += _of_chunks(kernel, problem, shape.chunks) or [
                Case(problem=problem, config=config) for config in configs or (_smallest_tiles(kernel, problem),)
            ]
    return cases


def _of_chunks(kernel: Any, problem: Problem, chunks: int) -> list[Case]:
    """One case of so many chunks and a tail for every size that a kernel has."""
    sizes = {config.chunk_size: config for config in reversed(kernel.configs(problem))} if chunks else {}
    return [
        Case(problem=replace(problem, T=chunks * size + _TAIL), config=config) for size, config in sorted(sizes.items())
    ]


def _takes(kernel: Any, prop: Property, problem: Problem) -> bool:
    return kernel.accepts(problem) is True and prop.applies(kernel, problem) is None


def _smallest_tiles(kernel: Any, problem: Problem) -> Any:
    """The first configuration of the default chunk size whose tiles are the smallest."""
    configs = kernel.configs(problem)
    return min((one for one in configs if one.chunk_size == configs[0].chunk_size), key=_tiles)


def _tiles(config: LaunchConfig) -> int:
    return sum(getattr(config, stage).block for stage in STAGES)


def unsupported_reasons(prop: Property, kernel: Any, rule: Rule) -> list[str]:
    """Why a kernel does not take known problems as they are, one reason for each, also where it is asked in another dtype or
    without a state."""
    if kernel is None:
        return []
    known = [*regressions.problems(rule).values(), *(pairwise.problems(rule) if prop.pairs else ())]
    known += [replace(known[0], dtype=dtype) for dtype in dtypes(prop)]
    answers = (kernel.accepts(problem) for problem in known)
    return [str(answer or "not accepted") for answer in answers if answer is not True]


def adapt_problem(prop: Property, kernel: Any, problem: Problem) -> Problem:
    """A known problem as it is, or else in the first dtype, or without the first of the states, that the kernel takes."""
    if kernel is None or kernel.accepts(problem) is True:
        return problem
    others = (replace(one, dtype=dtype) for one in with_fewer_states(problem) for dtype in dtypes(prop))
    return next((other for other in others if kernel.accepts(other) is True), problem)


def _config(kernel: Any, problem: Problem, index: int) -> Any:
    if kernel is None:
        return None
    configs = filled(kernel.configs(problem), problem)
    return configs[index % len(configs)]


def dtypes(prop: Property) -> Sequence[DType]:
    return ("fp32",) if prop.arithmetic in ("exact", "none") else DTYPES


def regimes(cell: Cell, prop: Property) -> Sequence[str]:
    """Exact arithmetic draws its own values: of all regimes only -inf makes a difference to it."""
    names = regimes_of(NAMED[cell.rule])
    return [name for name in ("ordinary", "reset_inf") if name in names] if prop.arithmetic == "exact" else names
