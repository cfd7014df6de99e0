"""The call of somebody's function that is compiled: on tensors of the family's rules, or as it is if it takes no arguments."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from typing import TYPE_CHECKING, Any

from ...specs.problem import DType, Problem
from ...specs.rule import RULES
from . import found

if TYPE_CHECKING:
    from .convention import Convention

ITS_OWN = "its own"
"""The call of a function without arguments, in a table."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class TargetCall:
    """One call of a target. rule: "" for a function without arguments, whose tensors are its own.

    full: with states in and out, and packed sequences, as far as the function takes them; else neither.
    """

    target: str
    rule: str = ""
    dtype: DType = "bf16"
    size: int = 0
    full: bool = False
    heads: int = 16
    batch: int = 1
    tokens: int = 8192

    @property
    def words(self) -> str:
        """The call in the words of a table, without its sizes; `of_words` reads it back."""
        return f"{self.rule} {self.dtype} {self.size}{' full' if self.full else ''}" if self.rule else ITS_OWN

    def __str__(self) -> str:
        return f"{self.target} {self.words}" if self.rule else self.target


def function_of(target: str) -> Callable[..., Any]:
    """The function that a target names. Raises ValueError, in one line, for anything else."""
    function = found(target)
    if not callable(function):
        raise ValueError(f"target {target!r} is of type {type(function).__name__}; accepted: a function")
    return function


def calls(target: str, rules: Sequence[str], dtypes: Sequence[DType], sizes: Sequence[int]) -> list[TargetCall]:
    """The calls that are tuned: one of a function without arguments, else those of every rule, dtype and size, sorted.

    rules: empty for the function's own. Raises ValueError for a function that is not understood, or whose rule is not told.
    """
    from .function import read

    function = function_of(target)
    if not _required(function):
        return [TargetCall(target=target)]
    try:
        taken = read(target, function).rules
    except ValueError as error:
        raise ValueError(f"{error}; or a function without arguments that makes its own tensors") from None
    if not rules and len(taken) > 1:
        raise ValueError(
            f"target {target!r}: its arguments fit several rules; say which with --rule: {', '.join(taken)}"
        )
    if wrong := [rule for rule in rules if rule not in taken]:
        raise ValueError(f"target {target!r} does not compute rule {wrong[0]}; it computes {', '.join(taken)}")
    some = [
        TargetCall(target=target, rule=rule, dtype=dtype, size=size)
        for rule, dtype, size in product(rules or taken, dtypes, sizes)
    ]
    convention = read(target, function)
    wanted = [call for call in some if convention.accepts(problem(call)) is True]
    if not wanted:
        raise ValueError(f"target {target!r}: {convention.accepts(problem(some[0]))}")
    fuller = [replace(call, full=True) for call in wanted]
    return sorted([*wanted, *(call for call in fuller if problem(call) != problem(replace(call, full=False)))])


def of_words(target: str, words: str) -> TargetCall:
    """The call that a table names."""
    if words == ITS_OWN:
        return TargetCall(target=target)
    rule, dtype, size, *full = words.split()
    return TargetCall(target=target, rule=rule, dtype=dtype, size=int(size), full=bool(full))  # pyright: ignore[reportArgumentType]


def make(call: TargetCall) -> None:
    """Call it, forward and, where it has one, backward, on tensors without content."""
    import torch

    from ..cases.replay import Case
    from ..execution import execute

    if not call.rule:
        function_of(call.target)()
        return
    asked = problem(call)
    convention = _convention(call.target)
    made = {name: tensor.to("meta") for name, tensor in execute.reserved(asked).items()}
    leaves = {n: x.requires_grad_() if n in execute.GRADIENTS else x for n, x in made.items()}
    arguments = execute.arguments(Case(problem=asked, config=convention.configs(asked)[0]), leaves)
    # The boundaries of sequences decide the launches.
    arguments["cu_seqlens"] = execute.cu_seqlens(asked)
    o, _ = convention.call(function_of(call.target), **arguments)
    if o.requires_grad:
        wanted = [leaves[name] for name in execute.GRADIENTS if name in leaves]
        with suppress(NotImplementedError):  # of an autograd function without a backward pass
            torch.autograd.grad(o, wanted, torch.empty_like(o), allow_unused=True)


def problem(call: TargetCall) -> Problem:
    """The call as a problem."""
    usual = Problem(
        rule=RULES[call.rule], dtype=call.dtype, B=call.batch, T=call.tokens, H=call.heads, HV=call.heads, K=call.size,
        V=call.size, initial_state=False, final_state=False,
    )  # fmt: skip
    return filled(call, usual, (call.tokens // 2, call.tokens - call.tokens // 2))


def filled(call: TargetCall, plain: Problem, lengths: tuple[int, ...]) -> Problem:
    """A problem with all that the function takes of states and packed sequences, if the call is a full one."""
    if not call.full:
        return plain
    convention, full = _convention(call.target), plain
    for options in ({"initial_state": True}, {"final_state": True}, {"lengths": lengths, "B": 1}):
        more = replace(full, **options)
        full = more if convention.accepts(replace(more, T=sum(lengths), K=16, V=16)) is True else full
    return full


@lru_cache(maxsize=16)
def _convention(target: str) -> Convention:
    from .function import read

    return read(target, function_of(target))


def _required(function: Callable[..., Any]) -> bool:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return True
    return any(p.default is p.empty and p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters)
