"""Calls that differ in one thing each: who keeps something of a call, and forgets this thing, takes it up in the wrong one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

from .case import Case

if TYPE_CHECKING:
    from ...kernels.registry import Kernel

_TOKENS, _MORE_TOKENS = 7, 40
"""The most tokens of a call, and of one longer call: calls are many, and a kernel's kept state hardly depends on the number."""
WIDE = 128
"""Channels of the widest call, more than most tiles have."""


def varied(case: Case, kernel: Kernel) -> Iterator[Case]:
    """The call, without gradients first, others of it that the kernel takes, and the call again; each has values of its own."""
    first = _first(case, kernel)
    problem = first.problem
    changes = (
        {},
        {"lengths": None if problem.lengths is None else problem.lengths[::-1]},
        {"scale": 0.75 if problem.scale is None else None},
        {"K": problem.V, "V": problem.K},
        {"H": problem.HV, "gate_heads": "value"} if problem.H != problem.HV else {"HV": 2 * problem.HV},
        {"initial_state": not problem.initial_state},
        {"initial_state": not problem.initial_state},
        {"qk_l2norm": not problem.qk_l2norm},
        {"gate_in_kernel": False},
        {"dtype": "bf16"},
        {"lengths": None},
        {"lengths": None, "B": 2},
        {"lengths": None, "T": _MORE_TOKENS},
        {"lengths": None, "K": WIDE, "V": WIDE, "HV": problem.H, "gate_heads": "value"},
    )
    yield replace(first, style="inference")
    yield first
    for place, change in enumerate(changes, start=1):
        other = replace(problem, seed=problem.seed + place, **change)
        if kernel.accepts(other) is True:
            yield replace(first, problem=other)
    sizes = {config.chunk_size: config for config in reversed(kernel.configs(problem))}
    yield from (replace(first, config=config) for size, config in sizes.items() if size != _size(first))
    yield first


def shortened(case: Case, kernel: Kernel) -> Case:
    """The case on few tokens, with every differentiable input that the kernel takes."""
    return replace(_first(case, kernel), style=case.style)


def widened(case: Case, kernel: Kernel) -> Case | None:
    """The case with many channels and few tokens, if it is taken."""
    first = _first(case, kernel)
    problem = replace(first.problem, K=WIDE, V=WIDE, HV=first.problem.H, gate_heads="value")
    return replace(case, problem=problem) if kernel.accepts(problem) is True else None


def _first(case: Case, kernel: Kernel) -> Case:
    """A packed batch with raw gates, or as much of that as is taken."""
    T = min(case.problem.T, _TOKENS)
    plain = replace(case.problem, B=1, T=T, lengths=None)
    gated = {} if plain.rule.decay == "none" else {"gate_in_kernel": True}
    packed = {"lengths": (T // 3, T - T // 3)}
    for change in ({**packed, **gated}, packed, gated):
        if kernel.accepts(one := replace(plain, **change)) is True:
            return replace(case, problem=one, style="")
    return replace(case, problem=plain, style="")


def _size(case: Case) -> int | None:
    return None if case.config is None else case.config.chunk_size
