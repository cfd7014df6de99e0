"""Every system by name, in one calling convention: states go in and come out as a tuple of tensors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..api import gated_delta_rule
from .carve import CarveCache, carve
from .comba import comba
from .delta_product import gated_delta_product
from .longhorn import longhorn
from .mamba3 import Mamba3State, mamba3, mamba3_mimo
from .preconditioned import PreconditionedState, preconditioned_delta_rule
from .retention import retention
from .rwkv7 import rwkv7

States = tuple[Tensor, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Relative:
    """A system that can be called, and verified by the system of `specs.relatives` with the same name.

    run: called with the tensors of that system by name, and states, cu_seqlens, scale, op and further options; returns
    the outputs and the final states.
    """

    name: str
    run: Callable[..., tuple[Tensor, States]]


def _single(function: Callable[..., Any]) -> Callable[..., tuple[Tensor, States]]:
    """A system whose state is one tensor."""

    def run(*, states: States | None, **arguments: Any) -> tuple[Tensor, States]:
        before = None if states is None else states[0]
        o, state = function(**arguments, initial_state=before, output_final_state=True)
        return o, (state,)

    return run


def _several(function: Callable[..., Any], kind: Any) -> Callable[..., tuple[Tensor, States]]:
    """A system whose state is a named tuple."""

    def run(*, states: States | None, **arguments: Any) -> tuple[Tensor, States]:
        before = None if states is None else kind(*states)
        o, state = function(**arguments, initial_state=before, output_final_state=True)
        return o, tuple(state)

    return run


def _carve(
    *, states: States | None, position: int, cu_seqlens: Tensor | None, **arguments: Any
) -> tuple[Tensor, States]:
    """All sequences are `position` tokens in."""
    cache = None
    if states is not None:
        state, mean, total = states
        cache = CarveCache(state=state, mean=mean, total=total, position=(position,) * len(state))
    o, last = carve(**arguments, cu_seqlens=cu_seqlens, cache=cache, output_cache=True)
    assert last is not None
    return o, (last.state, last.mean, last.total)


def _rule(**gates: str) -> Callable[..., tuple[Tensor, States]]:
    """A rule as it is, whose gates have these names in its paper."""

    def run(
        *, states: States | None, op: Callable[..., Any] = gated_delta_rule, **arguments: Any
    ) -> tuple[Tensor, States]:
        given = {gate: arguments.pop(name) for gate, name in gates.items()}
        before = None if states is None else states[0]
        o, state = op(
            **arguments, **{gate: given.get(gate) for gate in "gbw"}, initial_state=before, output_final_state=True
        )
        return o, (state,)

    return run


RELATIVES: dict[str, Relative] = {
    name: Relative(name=name, run=run)
    for name, run in (
        ("linear", _rule()),
        ("retnet", _single(retention)),
        ("mamba2", _rule(g="g", w="dt")),
        ("gla", _rule(g="g")),
        ("delta_rule", _rule(b="beta")),
        ("gdn", _rule(g="g", b="beta")),
        ("kda", _rule(g="g", b="beta")),
        ("gdn2", _rule(g="g", b="b", w="w")),
        ("carve", _carve),
        ("comba", _single(comba)),
        ("precond_gdn", _several(preconditioned_delta_rule, PreconditionedState)),
        ("precond_kda", _several(preconditioned_delta_rule, PreconditionedState)),
        ("delta_product", _single(gated_delta_product)),
        ("rwkv7", _single(rwkv7)),
        ("mamba3", _several(mamba3, Mamba3State)),
        ("mamba3_mimo", _several(mamba3_mimo, Mamba3State)),
        ("longhorn", _single(longhorn)),
    )
}
"""Every system by the name that `specs.relatives.SYSTEMS` gives it."""
