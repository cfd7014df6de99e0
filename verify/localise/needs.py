"""The conditions of a failure: leave out one thing at a time, and see without which the failure is gone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import NamedTuple

from ...specs.problem import Problem
from ..cases.case import Case


class Without(NamedTuple):
    """One thing less. part: of the problem. thing: in words. problems: those that go without it."""

    part: str
    thing: str
    problems: list[Problem]


def needs(case: Case, fails: Callable[[Case], bool], seconds: float) -> list[str]:
    """In words, everything without which `fails` is False; one thing per part of the problem. Stops after about `seconds`."""
    deadline = time.monotonic() + seconds
    found: dict[str, str] = {}
    for part, thing, problems in _simpler(case.problem, None if case.config is None else case.config.chunk_size):
        if time.monotonic() > deadline:
            break
        if part not in found and not any(fails(replace(case, problem=problem)) for problem in problems):
            found[part] = thing
    return list(found.values())


def _simpler(problem: Problem, chunk: int | None) -> Iterator[Without]:
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
    if problem.B > 1:
        yield Without("B", "more than one sequence", [replace(problem, B=1)])
    if problem.HV > problem.H:
        yield Without("HV", "more value heads than key heads", [replace(problem, HV=problem.H)])
    if problem.H > 1:
        fewer = replace(problem, H=1, HV=problem.HV // problem.H)
        yield Without("H", "more than one key head", [fewer])
    if problem.lengths is None and problem.T > 1:
        second = chunk if chunk is not None and chunk < problem.T else None
        yield from _sizes(problem, "T", second, "a second chunk", f"at least {problem.T} tokens")
    for name in ("K", "V"):
        size = getattr(problem, name)
        below = 1 << (size.bit_length() - 1)
        if below < size:
            around = [replace(problem, **{name: power}) for power in (below, 2 * below)]
            yield Without(name, f"a {name} that is no power of two", around)
        if size > 1:
            tile = next((tile for tile in (128, 64, 32, 16) if tile < size), None)
            yield from _sizes(problem, name, tile, f"{name} above {tile}", f"{name} of at least {size}")


def _sizes(problem: Problem, name: str, edge: int | None, beyond: str, exactly: str) -> Iterator[Without]:
    """A size that is one less, and one that is at an edge below; just beyond the edge, the edge is the better word."""
    size = getattr(problem, name)
    if edge != size - 1:
        yield Without(name, exactly, [replace(problem, **{name: size - 1})])
    if edge is not None:
        yield Without(name, beyond, [replace(problem, **{name: edge})])
