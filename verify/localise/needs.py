"""The conditions of a failure: leave out one thing at a time, and see without which the failure is gone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

from ...specs.problem import Problem
from ..cases.replay import Case

_FEW = 64
"""Tokens of which no power of two is told."""


class Without(NamedTuple):
    """One thing less. part: of the problem. thing: in words. problems: those that go without it."""

    part: str
    thing: str
    problems: list[Problem]


def needs(case: Case, fails: Callable[[Case], bool], calls: int) -> list[str]:
    """Everything, in words, without which `fails` is False; one thing per part of the problem, sizes first. Asks for no more than
    so many cases: the same ones on every machine."""
    found: dict[str, str] = {}
    for part, thing, problems in _simpler(case.problem, None if case.config is None else case.config.chunk_size):
        if part in found:
            continue
        if calls < len(problems):
            break
        calls -= len(problems)
        if not any(fails(replace(case, problem=problem)) for problem in problems):
            found[part] = thing
    return list(found.values())


def _simpler(problem: Problem, chunk: int | None) -> Iterator[Without]:
    yield from _fewer_tokens(problem, chunk)
    for name in ("K", "V"):
        size = getattr(problem, name)
        below = _power_below(size + 1)
        if below < size:
            around = [replace(problem, **{name: power}) for power in (below, 2 * below)]
            yield Without(name, f"a {name} that is no power of two", around)
        if size > 1:
            tile = next((tile for tile in (128, 64, 32, 16) if tile < size), None)
            edges = {} if tile is None else {tile: f"{name} above {tile}"}
            yield from _sizes(problem, name, edges, f"{name} of at least {size}")
    if problem.B > 1:
        yield Without("B", "more than one sequence", [replace(problem, B=1)])
    if problem.HV > problem.H:
        yield Without("HV", "more value heads than key heads", [replace(problem, HV=problem.H)])
    if problem.H > 1:
        fewer = replace(problem, H=1, HV=problem.HV // problem.H)
        yield Without("H", "more than one key head", [fewer])
    plain = {
        "dtype": ("fp32", f"inputs in {problem.dtype}"),
        "regime": ("ordinary", f"the values of regime {problem.regime}"),
        "initial_state": (False, "an initial state"),
        "final_state": (False, "a final state"),
        "lengths": (None, "a packed batch"),
        "gate_heads": ("value", "gates with one row per key head"),
        "strided": (False, "inputs that are not contiguous"),
        "qk_l2norm": (False, "normalisation inside the op"),
        "gate_in_kernel": (False, "the decay gate inside the op"),
        "scale": (None, f"scale {problem.scale}"),
    }
    for name, (value, thing) in plain.items():
        if getattr(problem, name) != value:
            yield Without(name, thing, [replace(problem, **{name: value})])


def _fewer_tokens(problem: Problem, chunk: int | None) -> Iterator[Without]:
    """The size itself, or the largest power of two that is too few, or a second chunk."""
    if problem.lengths is not None or problem.T < 2:
        return
    edges, power = {}, _power_below(problem.T)
    while power > max(chunk or 0, _FEW):
        edges[power] = f"more than {power} tokens"
        power //= 2
    if chunk is not None and chunk < problem.T:
        edges[chunk] = "a second chunk"
    yield from _sizes(problem, "T", edges, f"at least {problem.T} tokens")


def _power_below(size: int) -> int:
    """The largest power of two that is less."""
    return 1 << ((size - 1).bit_length() - 1)


def _sizes(problem: Problem, name: str, edges: Mapping[int, str], exactly: str) -> Iterator[Without]:
    """A size that is one less, and those at edges below, from above; just beyond an edge, the edge is the better word."""
    size = getattr(problem, name)
    if size - 1 not in edges:
        yield Without(name, exactly, [replace(problem, **{name: size - 1})])
    for edge, beyond in edges.items():
        yield Without(name, beyond, [replace(problem, **{name: edge})])
