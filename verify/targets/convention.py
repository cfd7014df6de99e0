"""How somebody else's function wants to be called: its arguments, their names, and the problems that it does not take.

A `Convention` turns a call of ours (that of `deltaproof.kernels.gated_delta_rule`) into one of theirs, and says of a problem
whether the function declares that it takes it. `adapt` makes a kernel of both, ready to be judged.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any, Literal

import numpy as np
import torch

from ...kernels.configs.launch_config import LaunchConfig
from ...kernels.registry import Kernel
from ...specs.inputs.make import generate
from ...specs.problem import DTYPES, DType, Problem
from ...specs.rounding.contract import Rounding
from ...specs.rule import RULES

Tensor = torch.Tensor
Option = Literal["scale", "initial_state", "output_final_state", "cu_seqlens", "l2norm", "gate", "chunk_size", "config"]

_BOUNDED_RATE, _BOUNDED_BIAS = 0.5, 0.25
"""A_log and dt_bias of calls whose decay is written as a bounded gate: neither 0, so that both take part."""
_BETA_MARGIN, _GATE_MARGIN = 1e-6, 1e-8
"""How far from its ends, in units of its range, a gate may come that is written as a sigmoid."""

_KEEPING = {"disable_recompute": True}
"""Keywords under which a function that takes them keeps for its backward pass what it would else compute again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Convention:
    """The arguments and problems that a function takes.

    rules: it computes these. names: our argument -> theirs, where they differ.
    options: the options that it can compute; problems with any other option are declined.
    infinite_decay: g may be -inf. grouped_heads: value heads may outnumber key heads.
    key_gates: g and b may then have the number of key heads.
    dtypes: of q, k and v. max_channels: the largest K and V. limits: any other reason why a problem is not taken, or None.
    chunk_sizes: for a problem, those that it can be asked for, its default first. fixed: arguments of every call.
    state_v_first: states are [N, HV, V, K]. int64_boundaries: cu_seqlens must be.
    beta_range: b is passed as the r of b = beta_range * sigmoid(r). lower_bound: g is passed as the r of
        g = lower_bound * sigmoid(exp(A_log) * (r + dt_bias)). None where they are passed as they are.
    """

    rules: tuple[str, ...]
    names: Mapping[str, str] = field(default_factory=dict)
    options: frozenset[Option] = frozenset()
    infinite_decay: bool = False
    grouped_heads: bool = False
    key_gates: bool = False
    dtypes: tuple[DType, ...] = DTYPES
    max_channels: int = 256
    limits: Callable[[Problem], str | None] = lambda problem: None
    chunk_sizes: Callable[[Problem], tuple[int, ...]] = lambda problem: (64,)
    fixed: Mapping[str, Any] = field(default_factory=dict)
    state_v_first: bool = False
    int64_boundaries: bool = True
    beta_range: float | None = None
    lower_bound: float | None = None

    def accepts(self, problem: Problem) -> bool | str:
        """True, or the first reason why the function does not take a problem."""
        able, grouped = self.options, problem.HV != problem.H
        refusals = {
            f"does not compute rule {problem.rule.name}": problem.rule.name not in self.rules,
            f"does not take {problem.dtype}": problem.dtype not in self.dtypes,
            f"head dimensions above {self.max_channels}": max(problem.K, problem.V) > self.max_channels,
            "takes no more value heads than key heads": grouped and not self.grouped_heads,
            "takes gates per value head only": problem.gate_heads == "key" and grouped and not self.key_gates,
            "takes no initial state": problem.initial_state and "initial_state" not in able,
            "returns no final state": problem.final_state and "output_final_state" not in able,
            "takes no packed batch": problem.lengths is not None and "cu_seqlens" not in able,
            "does not normalise q and k": problem.qk_l2norm and "l2norm" not in able,
            "takes no raw decay gate": problem.gate_in_kernel and "gate" not in able,
            "takes no scale": problem.scale is not None and "scale" not in able,
        }
        for reason, applies in refusals.items():
            if applies:
                return reason
        if (limit := self.limits(problem)) is not None:
            return limit
        if not self.infinite_decay and _forgets_all(problem):
            return "takes no decay of -inf"
        if self.lower_bound is not None and not _within(problem, "g", self.lower_bound, _GATE_MARGIN):
            return f"decays outside the open interval ({self.lower_bound:g}, 0)"
        if self.beta_range is not None and not _within(problem, "b", self.beta_range, _BETA_MARGIN):
            return f"erase gates outside the open interval (0, {self.beta_range:g})"
        return True

    def configs(self, problem: Problem) -> tuple[LaunchConfig, ...]:
        """One configuration per chunk size."""
        return tuple(LaunchConfig(chunk_size=size) for size in self.chunk_sizes(problem))

    def arguments(self, call: Mapping[str, Any]) -> dict[str, Any]:
        """Their keyword arguments for our call. Gradients flow through all that is rewritten here."""
        tensors = {name: call.get(name) for name in ("q", "k", "v", "g", "b", "w")}
        theirs: dict[str, Any] = dict(self.fixed)
        if self.beta_range is not None:
            # In fp64, and then fp32 for any dtype: a rounded logit would be another gate.
            tensors["b"] = (_given(tensors["b"]).double() / self.beta_range).logit().float()
        if self.lower_bound is not None:
            tensors["g"], rate, bias = _bounded(_given(tensors["g"]), self.lower_bound)
            theirs |= {"use_gate_in_kernel": True, "lower_bound": self.lower_bound, "A_log": rate, "dt_bias": bias}
        if "w" not in self._accepted and tensors["w"] is not None:
            # No write gate of their own: it is part of the values, as the layers of such models have it.
            v = _given(tensors["v"])
            tensors["v"] = (v * tensors["w"][..., None]).to(v.dtype)
        theirs |= {self.names.get(name, name): x for name, x in tensors.items() if name in self._accepted}
        state, boundaries = call.get("initial_state"), call.get("cu_seqlens")
        if state is not None and self.state_v_first:
            state = state.transpose(-1, -2).contiguous()
        if boundaries is not None and self.int64_boundaries:
            boundaries = boundaries.to(torch.int64)
        optional: dict[Option, Mapping[str, Any]] = {
            "scale": {"scale": call.get("scale")},
            "initial_state": {"initial_state": state},
            "output_final_state": {"output_final_state": call.get("output_final_state", False)},
            "cu_seqlens": {"cu_seqlens": boundaries},
            "l2norm": {"use_qk_l2norm_in_kernel": call.get("use_qk_l2norm_in_kernel", False)},
            "gate": {name: call[name] for name in ("A_log", "dt_bias") if call.get(name) is not None}
            | ({"use_gate_in_kernel": True} if call.get("use_gate_in_kernel") else {}),
            "config": {"config": call.get("config")},
        }
        if call.get("config") is not None:
            optional["chunk_size"] = {"chunk_size": call["config"].chunk_size}
        for option, words in optional.items():
            if option in self.options:
                theirs |= {self.names.get(name, name): value for name, value in words.items()}
        return theirs | {name: call[name] for name in _KEEPING if name in call}

    @property
    def _accepted(self) -> frozenset[str]:
        """Our tensors that the function has an argument for: those of its rules' gates, unless named nowhere ("")."""
        gates = {gate for rule in self.rules for gate in RULES[rule].gates}
        return frozenset(name for name in {"q", "k", "v"} | gates if self.names.get(name, name))

    def call(self, function: Callable[..., Any], **call: Any) -> tuple[Tensor, Tensor | None]:
        """Call the function, and return (o, final state or None) in our layout."""
        answer = function(**self.arguments(call))
        o, state = (answer, None) if isinstance(answer, Tensor) else (answer[0], answer[1])
        if state is not None and self.state_v_first:
            state = state.transpose(-1, -2).contiguous()
        return o, state


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapted(Kernel):
    """A function of somebody else's as a kernel. convention: how it is called."""

    convention: Convention
    foreign: bool = True

    @property
    def rules(self) -> tuple[str, ...]:
        return self.convention.rules


def adapt(
    function: Callable[..., Any],
    convention: Convention,
    *,
    name: str | None = None,
    recurrent: bool = False,
    differentiable: bool = True,
    needs_triton: bool = True,
    discards_unwritten: bool = False,
    sums_decay_gradient: bool = False,
    fp32_operand: Rounding | None = None,
    exponent: Rounding | None = None,
) -> Adapted:
    """A kernel that calls `function` by `convention`.

    recurrent: it goes token by token, and is held to that, stricter, contract. differentiable: it has a backward pass.
    needs_triton: it runs Triton kernels. The others are those of `Kernel`.
    """
    name = name or str(getattr(function, "__name__", type(function).__name__))
    taken = inspect.signature(function).parameters
    return Adapted(
        name=name,
        op="recurrent" if recurrent else "chunk_train" if differentiable else "chunk_fwd",
        variant=name,
        differentiable=differentiable,
        needs_triton=needs_triton,
        run=partial(convention.call, function),
        trusting={"check_values": False} if "check_values" in taken else {},
        keeping={name: value for name, value in _KEEPING.items() if name in taken},
        accepts=convention.accepts,
        configs=convention.configs,
        convention=convention,
        discards_unwritten=discards_unwritten,
        sums_decay_gradient=sums_decay_gradient,
        fp32_operand=fp32_operand,
        exponent=exponent,
    )


def _given(x: Tensor | None) -> Tensor:
    if x is None:
        raise ValueError("the call has no gate that could be rewritten; the rule of this kernel has one")
    return x


def _bounded(g: Tensor, lower_bound: float) -> tuple[Tensor, Tensor, Tensor]:
    """(raw, A_log [HV], dt_bias [HV * C]) of which g = lower_bound * sigmoid(exp(A_log) * (raw + dt_bias))."""
    heads, channels = g.shape[2], g.shape[3] if g.ndim == 4 else 1
    rate = torch.full((heads,), _BOUNDED_RATE, device=g.device)
    bias = torch.full((heads * channels,), _BOUNDED_BIAS, device=g.device)
    raw = (g.double() / lower_bound).logit() / rate.double().exp()[0] - _BOUNDED_BIAS
    return raw.float(), rate, bias


@lru_cache(maxsize=256)
def _forgets_all(problem: Problem) -> bool:
    """Whether a log decay of the problem is -inf."""
    g = generate(problem).g
    return g is not None and bool(np.isneginf(g).any())


@lru_cache(maxsize=256)
def _within(problem: Problem, name: str, end: float, margin: float) -> bool:
    """Whether a gate of the problem lies strictly between 0 and `end`. An option that hides the gate's values does not."""
    if problem.gate_in_kernel and name == "g":
        return False
    x = generate(problem).arrays().get(name)
    if x is None:
        return False
    share = x / end
    return bool(((share > margin) & (share < 1 - margin)).all())
