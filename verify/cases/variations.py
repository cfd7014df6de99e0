"""Calls that differ in one thing each: who keeps something of a call, and forgets this thing, takes it up in the wrong one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from ...specs.problem import Problem

_TOKENS = 7
"""At most: calls are many, and what is kept of one hardly depends on them."""


def varied(problem: Problem, takes: Callable[[Problem], bool]) -> Iterator[Problem]:
    """The problem, others of them that are taken, and the problem again."""
    T = min(problem.T, _TOKENS)
    packed = replace(problem, B=1, T=T, lengths=(T // 3, T - T // 3))
    first = packed if takes(packed) else replace(problem, B=1, T=T, lengths=None)
    others = (
        {"lengths": None if first.lengths is None else first.lengths[::-1]},
        {"scale": 0.75 if first.scale is None else None},
        {"K": first.V, "V": first.K},
        {"H": first.HV, "gate_heads": "value"} if first.H != first.HV else {"HV": 2 * first.HV},
        {"initial_state": not first.initial_state},
        {"qk_l2norm": not first.qk_l2norm},
        {"lengths": None},
    )
    yield first
    for change in others:
        other = replace(first, **change)
        if other != first and takes(other):
            yield other
    yield first
