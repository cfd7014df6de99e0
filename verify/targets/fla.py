"""The released package flash-linear-attention (fla-core): the functions that are judged, and their declarations.

Every option that changes how a function is called has a kernel of its own, named `<function>/<option>`:

    safe_gate        tensor-core products on the diagonal blocks; with a decay that is passed as it is
    lower_bound      safe_gate with the bounded gate activation: the decay is passed as the raw value that gives it
    state_v_first    states are [V, K]
    allow_neg_eigval the erase gate is passed as the logit that gives it, over [0, 2]

`use_qk_l2norm_in_kernel`, `use_gate_in_kernel` and grouped value heads are options of the problem.
The table follows the functions' documentation in 0.6.0. An option that a function of the installed version does not take is
reported as not offered; an erase gate of up to 2 is then passed as it is. How the package is made to run without a GPU is in
`interpreted`.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module, metadata
from typing import TYPE_CHECKING, Any

from ...results.files.checkout import off_path
from ...results.files.one_line import told
from ...specs.inputs.make import generate
from ...specs.problem import DTYPES, DType, Problem
from ...specs.rounding.contract import DIFFERENCE_OF_SUMS, FP32, Rounding
from . import FLA, Target
from .convention import Adapted, Convention, Option, adapt

if TYPE_CHECKING:
    from ...kernels.registry import Kernel

WEAKEST_KNOWN_GOOD = -5.0
"""The package's default path is known to be right for a log decay between this and 0 per token."""

_BF16X3 = Rounding(unit=2.0**-17, quantum=FP32.quantum)
"""fp32 as a sum of two bf16, as the products of the safe-gate kernels take it since 0.6.0."""

_BASIC: frozenset[Option] = frozenset(("scale", "initial_state", "output_final_state", "cu_seqlens"))
_L2NORM: frozenset[Option] = frozenset(("l2norm",))
_GATE: frozenset[Option] = frozenset(("gate",))
_CHUNK: frozenset[Option] = frozenset(("chunk_size",))


OPTIONS = ("safe_gate", "lower_bound", "state_v_first", "allow_neg_eigval")
"""Arguments that make a kernel of their own of every function that takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Function:
    """One function of the package."""

    name: str
    rule: str
    options: frozenset[Option] = frozenset()
    names: Mapping[str, str] = field(default_factory=dict)
    chunk_sizes: tuple[int, ...] = (64,)
    grouped: bool = False
    differentiable: bool = True
    dtypes: tuple[DType, ...] = DTYPES


_BETA = {"b": "beta"}

FUNCTIONS: tuple[tuple[str, Function], ...] = (
    ("gdn2", Function(name="chunk_gdn2", rule="gdn2", options=_L2NORM | _GATE)),
    ("gdn2", Function(name="fused_recurrent_gdn2", rule="gdn2", options=_L2NORM | _GATE, grouped=True,
                      differentiable=False)),
    ("kda", Function(name="chunk_kda", rule="kda", names=_BETA, options=_L2NORM | _GATE | _CHUNK, chunk_sizes=(64, 32),
                     grouped=True)),
    ("kda", Function(name="fused_recurrent_kda", rule="kda", names=_BETA, options=_L2NORM | _GATE, grouped=True,
                     differentiable=False)),
    ("gated_delta_rule", Function(name="chunk_gated_delta_rule", rule="gdn", names=_BETA, grouped=True,
                                  options=_L2NORM | _GATE | _CHUNK, chunk_sizes=(64, 16, 32))),
    ("gated_delta_rule", Function(name="fused_recurrent_gated_delta_rule", rule="gdn", names=_BETA, grouped=True,
                                  options=_L2NORM | _GATE, differentiable=False)),
    ("delta_rule", Function(name="chunk_delta_rule", rule="delta_rule", names=_BETA, options=_L2NORM | _CHUNK,
                            chunk_sizes=(64, 16, 32), dtypes=("bf16", "fp16"))),
    ("delta_rule", Function(name="fused_recurrent_delta_rule", rule="delta_rule", names=_BETA, options=_L2NORM)),
    ("gla", Function(name="chunk_gla", rule="gla")),
    ("gla", Function(name="fused_recurrent_gla", rule="gla", names={"g": "gk"})),
    ("simple_gla", Function(name="chunk_simple_gla", rule="mamba2", names={"w": ""}, options=_CHUNK,
                            chunk_sizes=(64, 16, 32))),
    ("simple_gla", Function(name="fused_recurrent_simple_gla", rule="mamba2", names={"w": ""})),
)  # fmt: skip
"""(module of fla.ops, function), for every function that is judged. mamba2's write gate is part of the values."""


def load() -> Target:
    """The target of the installed package. Raises ValueError if there is none, or it does not import."""
    try:
        version = metadata.version("fla-core")
        with off_path():
            modules = {name: import_module(f"fla.ops.{name}") for name, _ in FUNCTIONS}
    except metadata.PackageNotFoundError:
        raise ValueError("target 'fla' needs fla-core, and it is not installed: pip install fla-core") from None
    except Exception as error:
        raise ValueError(f"target 'fla' cannot be imported: {told(error, 200)}") from None
    kernels: dict[str, Any] = {}
    for module, function in FUNCTIONS:
        found = getattr(modules[module], function.name)
        kernels |= {kernel.name: kernel for kernel in _kernels(found, function, version)}
    return Target(
        name=FLA,
        kernels=kernels,
        version=f"fla-core {version}",
        known_good=known_good,
        not_offered={
            option: tuple(one.name for _, one in FUNCTIONS if f"{one.name}/{option}" not in kernels)
            for option in OPTIONS
        },
    )


def known_good(kernel: Kernel, problem: Problem) -> bool | str:
    """Calibration keeps to the default paths, and to decays that they are known to be right on."""
    if "/" in kernel.name:
        return "only the default path of a function is known to be right"
    if problem.gate_in_kernel:
        return "its softplus loses weak decays: it is log(1 + exp(x)), without the care of log1p"
    g = generate(problem).g
    if g is not None and g.size and not (g >= WEAKEST_KNOWN_GOOD).all():
        return f"log decays below {WEAKEST_KNOWN_GOOD:g} per token"
    return True


def _kernels(function: Any, declared: Function, version: str) -> list[Adapted]:
    """The function itself, and one kernel for each of its options that the installed version has."""
    recurrent = declared.name.startswith("fused_recurrent")
    base = Convention(
        rules=(declared.rule,),
        names=declared.names,
        options=_BASIC | declared.options,
        grouped_heads=declared.grouped and not (declared.name == "fused_recurrent_gdn2" and version < "0.6"),
        dtypes=declared.dtypes,
        limits=_LIMITS.get(declared.name, _nothing if recurrent else _whole_tiles),
        chunk_sizes=_gla_chunk if declared.name == "chunk_gla" else lambda problem: declared.chunk_sizes,
    )
    parameters = inspect.signature(function).parameters
    found = [base]
    labels = [declared.name]
    for variant in OPTIONS:
        if variant in parameters:
            found.append(_variant(base, variant, chunkwise="safe_gate" in parameters))
            labels.append(f"{declared.name}/{variant}")
    return [
        adapt(
            function,
            convention,
            name=label,
            recurrent=recurrent,
            differentiable=declared.differentiable,
            # Its chunkwise kernels load whole blocks of which only the lower triangle was written, and mask afterwards.
            discards_unwritten=not recurrent,
            # By design, in every one of them that has a backward pass and a decay.
            sums_decay_gradient=True,
            exponent=None if recurrent else DIFFERENCE_OF_SUMS,
            fp32_operand=_BF16X3 if convention.fixed.get("safe_gate") and version >= "0.6" else None,
        )
        for label, convention in zip(labels, found, strict=True)
    ]


def _variant(base: Convention, variant: str, *, chunkwise: bool) -> Convention:
    """The convention of a call with one more option."""
    raw = base.options - _GATE
    if variant == "safe_gate":
        # With a raw gate the option also asks for a lower bound.
        return replace(base, options=raw, fixed={"safe_gate": True})
    if variant == "lower_bound":
        return replace(base, options=raw, lower_bound=-5.0, fixed={"safe_gate": True} if chunkwise else {})
    if variant == "state_v_first":
        return replace(base, state_v_first=True, fixed={"state_v_first": True})
    assert variant == "allow_neg_eigval"
    return replace(base, beta_range=2.0, fixed={"use_beta_sigmoid_in_kernel": True, "allow_neg_eigval": True})


def _nothing(problem: Problem) -> str | None:
    return None


def _whole_tiles(problem: Problem) -> str | None:
    return "head dimensions below 16, which tensor cores do not multiply" if min(problem.K, problem.V) < 16 else None


def _even_tiles(problem: Problem) -> str | None:
    odd = problem.dtype != "fp32" and (problem.K % 2 or problem.V % 2)
    return "odd head dimensions in 16 bits" if odd else _whole_tiles(problem)


def _positive_scale(problem: Problem) -> str | None:
    return "takes no scale of 0 or less" if problem.effective_scale <= 0 else None


_LIMITS = {"chunk_simple_gla": _even_tiles, "fused_recurrent_delta_rule": _positive_scale}
"""Of functions with limits of their own."""


def _gla_chunk(problem: Problem) -> tuple[int, ...]:
    """`chunk_gla` chooses: the power of two that holds all tokens, between 16 and 64."""
    return (min(64, max(16, 1 << max(0, problem.T - 1).bit_length())),)
