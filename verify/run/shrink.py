"""Make a failing case smaller, one thing at a time: Hypothesis makes those smaller that it has drawn, and no other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from ...specs.problem import Problem
from ..cases.replay import Case
from ..verdicts.outcome import Outcome
from .search import CellRecord

Takes = Callable[[Problem], bool]
_SIZES: tuple[str, ...] = ("T", "K", "V", "B")
_PLAIN: dict[str, Any] = {
    "regime": "ordinary", "strided": False, "qk_l2norm": False, "gate_in_kernel": False, "gate_heads": "value",
    "scale": None, "initial_state": False, "final_state": False, "dtype": "fp32",
}  # fmt: skip


def shrink(attempt: Callable[[Case], Outcome], record: CellRecord, takes: Takes, calls: int) -> None:
    """Leave in `record` the smallest case that fails in its way, after so many further cases at most.

    A size that does not fail is taken to be too small for good, so that the least that fails is found by halves.
    """
    too_small: dict[str, int] = dict.fromkeys(_SIZES, 0)
    while calls > 0 and record.smallest is not None:
        first = record.smallest[0]
        for size, problem in _simpler(first.problem, too_small):
            case = replace(first, problem=problem)
            if case in record.seen or not takes(problem):
                continue
            calls -= 1
            attempt(case)
            if record.smallest[0] is not first:
                break
            if size:
                too_small[size] = getattr(problem, size)
            if not calls:
                return
        else:
            return


def _simpler(problem: Problem, too_small: dict[str, int]) -> Iterator[tuple[str, Problem]]:
    """(the size that is less, or "", problem), the largest steps first; sizes above those that are too small."""
    if problem.lengths is not None:
        half = len(problem.lengths) // 2
        for lengths in (problem.lengths[:half], problem.lengths[half:]) if half else ():
            yield "", replace(problem, lengths=lengths, T=sum(lengths))
        yield "", replace(problem, lengths=None)
    if problem.H > 1:
        yield "", replace(problem, H=1, HV=problem.HV // problem.H)
    if problem.HV > problem.H:
        yield "", replace(problem, HV=problem.H)
    for name in _SIZES if problem.lengths is None or len(problem.lengths) == 1 else ("K", "V"):
        size, step = getattr(problem, name), (getattr(problem, name) - too_small[name]) // 2
        while step:
            if size - step > too_small[name]:
                less: dict[str, Any] = {name: size - step}
                if name == "T" and problem.lengths is not None:
                    less["lengths"] = (size - step,)
                yield name, replace(problem, **less)
            step //= 2
    for name, value in _PLAIN.items():
        if getattr(problem, name) != value:
            yield "", replace(problem, **{name: value})
