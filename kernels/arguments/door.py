"""The door of a function that hands keywords on: it refuses, by its own name, keywords and kinds that it does not take."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from torch import Tensor

from .axes import check_flags, dense, sort_of

P = ParamSpec("P")
R = TypeVar("R")

_FLAGS = {
    "state_v_first", "transpose_state_layout", "use_beta_sigmoid_in_kernel", "allow_neg_eigval", "use_gate_in_kernel",
    "use_qk_l2norm_in_kernel", "output_final_state", "normalize", "disable_recompute",
}  # fmt: skip
_TENSORS = {"initial_state", "A_log", "dt_bias", "cu_seqlens", "cu_seqlens_cpu"}
"""Keywords that may be None."""


@dataclass(frozen=True, slots=True)
class Takes:
    """A decorator for functions that take `keywords` besides the parameters of their signatures.

    Raises TypeError, in one line and in the name of the function, for other keywords.
    """

    keywords: frozenset[str]

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """The function, which then knows what it takes."""
        taken = self.keywords.union(_named(function))

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            refuse_unknown(function.__name__, kwargs, taken)
            return function(*args, **kwargs)

        return call


@dataclass(frozen=True, slots=True)
class Door:
    """A decorator for functions under another library's names, which take `keywords` besides the parameters of their signatures.

    Arguments that are annotated as tensors are then dense tensors, flags are True or False, and a state that has values
    first has the sizes of v and k. Raises TypeError and ValueError, in one line, for others, and TypeError for keywords
    that the function does not take.
    """

    keywords: frozenset[str]

    def __call__(self, function: Callable[P, R], name: str | None = None) -> Callable[P, R]:
        """The function behind the door, under its own name or another."""
        called = name or function.__name__
        parameters = inspect.signature(function).parameters
        named = _named(function)
        taken = self.keywords.union(named)
        required = {name for name in named if parameters[name].annotation == "Tensor"}
        optional = {name for name in named if parameters[name].annotation == "Tensor | None"} | _TENSORS

        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            refuse_unknown(called, kwargs, taken)
            given: dict[str, Any] = dict(zip(named, args, strict=False)) | kwargs
            for name, value in given.items():
                if name in required and not dense(value):
                    raise TypeError(f"{name} is {sort_of(value)}; accepted: a dense tensor")
                if name in optional and value is not None and not dense(value):
                    raise TypeError(f"{name} is {sort_of(value)}; accepted: a dense tensor, or None")
                if name in _FLAGS and value is not None:
                    check_flags(**{name: value})
            if given.get("state_v_first") or given.get("transpose_state_layout"):
                _check_turned(given.get("initial_state"), given.get("k"), given.get("v"))
            return function(*args, **kwargs)

        call.__name__ = call.__qualname__ = called
        return call


def _named(function: Callable[..., Any]) -> list[str]:
    """The parameters of a function, but for that which holds all others."""
    parameters = inspect.signature(function).parameters.items()
    return [name for name, parameter in parameters if parameter.kind != inspect.Parameter.VAR_KEYWORD]


def refuse_unknown(called: str, given: Iterable[str], taken: Iterable[str]) -> None:
    """Raises TypeError, in one line, for a keyword that `called` does not take."""
    for name in given:
        if name not in taken:
            raise TypeError(f"{called} takes no keyword {name!a:.60}; accepted: {', '.join(sorted(taken))}")


def _check_turned(state: Tensor | None, k: Any, v: Any) -> None:
    """Before the state is turned, since the op would name the shape that it has afterwards."""
    if state is None or not dense(k) or not dense(v) or not k.dim() or not v.dim():
        return
    V, K = v.shape[-1], k.shape[-1]
    if state.dim() != 4 or state.shape[2:] != (V, K):
        found = list(state.shape)
        raise ValueError(f"initial_state has shape {found}; accepted with values first: [N, HV, {V}, {K}]")
