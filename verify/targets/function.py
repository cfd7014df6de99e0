"""`--target module:function`: a convention read off a signature, and a trial call that shows the rest."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from importlib import metadata
from typing import Any

import torch

from ...kernels.configs.launch_config import LaunchConfig
from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ...specs.rounding.contract import DIFFERENCE_OF_SUMS
from ...specs.rule import RULES, Rule
from ..cases.case import Case
from ..execution import execute
from . import Target
from .convention import Adapted, Convention, Option, adapt
from .declared import Words, declaring

_TENSORS: dict[str, tuple[str, ...]] = {"q": ("q", "query"), "k": ("k", "key"), "v": ("v", "value")}
_NAMES: dict[str, tuple[str, ...]] = {"g": ("g", "gk"), "b": ("b", "beta"), "w": ("w",)}
"""Our gates, and their names in the signatures that are understood."""
_ARGUMENTS: dict[Option, tuple[str, ...]] = {
    "scale": ("scale",),
    "initial_state": ("initial_state",),
    "output_final_state": ("output_final_state",),
    "cu_seqlens": ("cu_seqlens",),
    "l2norm": ("use_qk_l2norm_in_kernel",),
    "gate": ("use_gate_in_kernel", "A_log", "dt_bias"),
    "chunk_size": ("chunk_size",),
    "config": ("config",),
}
_HINTS = {"gdn2": "gdn2", "kda": "kda", "gated_delta_rule": "gdn", "gdn": "gdn", "simple_gla": "mamba2", "mamba2": "mamba2",
          "gla": "gla", "delta_rule": "delta_rule"}  # fmt: skip
"""Words in a function's name that tell its rule where its arguments leave a choice; the first that is there counts."""


@lru_cache(maxsize=16)
def of_function(name: str, function: Callable[..., Any], simulated: str = "", words: Words = ()) -> Target:
    """A target of one kernel; simulated: the architecture that it is compiled for, without a GPU; words: declarations about it.

    Raises ValueError for a signature that is neither FLA's nor ours.
    """
    convention = read(name, function)
    convention = replace(convention, **_tried(function, convention, simulated))
    short = getattr(function, "__name__", name.rpartition(":")[2])
    kernel = adapt(function, convention, name=short)
    seen = _try(kernel, simulated)
    kernel = adapt(
        function,
        convention,
        name=short,
        recurrent="recurrent" in short,
        differentiable=seen.differentiable,
        needs_triton=seen.launches,
        # A signature does not tell how a chunk's decays are summed: most subtract running sums, and autograd through one
        # sums backwards.
        sums_decay_gradient="recurrent" not in short,
        exponent=None if "recurrent" in short else DIFFERENCE_OF_SUMS,
    )
    kernel = declaring(kernel, function, words) if words else kernel
    convention, ambiguous = kernel.convention, None
    if len(convention.rules) > 1 and len(convention.rules) < len(RULES):
        choices = " or ".join(f"--rule {rule}" for rule in convention.rules)
        ambiguous = f"target {name!r}: its arguments fit several rules; say which with {choices}"
    return Target(name=name, kernels={short: kernel}, version=package_of(function), ambiguous=ambiguous)


def read(name: str, function: Callable[..., Any]) -> Convention:
    """The convention of a signature; an option that it does not take is declared as not supported. Raises ValueError."""
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        raise ValueError(f"target {name!r} has no signature that could be read") from None
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ValueError(
            f"target {name!r} returns no tensor, but a coroutine or a generator; accepted: a plain function"
        )
    known = set().union(*_TENSORS.values(), *_NAMES.values(), *_ARGUMENTS.values())
    named = {k: p for k, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    required = [k for k, p in named.items() if p.default is p.empty]
    missing = [tensor for tensor, theirs in _TENSORS.items() if not named.keys() & set(theirs)]
    strange = [k for k in required if k not in known]
    if missing or strange:
        wrong = f"takes no {', '.join(missing)}" if missing else f"requires {', '.join(strange)}"
        raise ValueError(
            f"target {name!r} {wrong}; accepted: FLA's signature (q, k, v, g, beta, ...) or ours (q, k, v, g, b, w, ...)"
        )
    names = {
        gate: next(n for n in theirs if n in named) for gate, theirs in _NAMES.items() if named.keys() & set(theirs)
    }
    own = set(names) == set(_NAMES) and not set(names.values()) & set(required)
    rules = tuple(RULES) if own else _rules(name, function, names, required)
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    options: set[Option] = {option for option, words in _ARGUMENTS.items() if set(words) <= named.keys()}
    if "use_gate_in_kernel" in named and anything:
        options.add("gate")
    tensors = {tensor: next(n for n in theirs if n in named) for tensor, theirs in _TENSORS.items()}
    passed: Mapping[str, str] = {ours: theirs for ours, theirs in (tensors | names).items() if ours != theirs}
    if "w" not in names and "mamba2" in rules:
        passed = {**passed, "w": ""}
    return Convention(
        rules=rules,
        names=passed,
        options=frozenset(options),
        # A signature does not tell. Ours means them; who takes them under another signature says so with `adapt`.
        grouped_heads=own,
        key_gates=own,
        infinite_decay=own,
        int64_boundaries=not own,
        max_channels=256,
    )


def _rules(name: str, function: Callable[..., Any], names: Mapping[str, str], required: list[str]) -> tuple[str, ...]:
    """Rules whose gates the function takes, and that need no other; one, if its name tells. Raises ValueError."""
    fitting = tuple(rule.name for rule in RULES.values() if _fits(rule, names, required))
    if not fitting:
        raise ValueError(f"target {name!r}: no rule has the gates {', '.join(names.values()) or 'none'}")
    words: Iterator[str] = (rule for word, rule in _HINTS.items() if word in getattr(function, "__name__", ""))
    told = next(words, None)
    return (told,) if told in fitting else fitting


def _fits(rule: Rule, names: Mapping[str, str], required: list[str]) -> bool:
    wanted = set(rule.gates)
    if "w" not in names and rule.name == "mamba2":
        wanted.discard("w")  # part of the values
    if not wanted <= set(names) or any(names[gate] in required for gate in set(names) - wanted):
        return False
    # FLA calls a gate per head beta, and one per key channel b or gk.
    if "b" in wanted and (rule.erase == "scalar") != (names["b"] == "beta"):
        return False
    return not ("g" in wanted and names["g"] == "gk" and rule.decay != "channel")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """The findings of a trial call. launches: it runs Triton kernels."""

    differentiable: bool
    launches: bool


def _try(kernel: Adapted, simulated: str) -> _Seen:
    """Call the kernel once, on a small problem. One that raises is taken to do everything: judging it will show its fault."""
    problem = _small(kernel.convention)
    interpreted = os.environ.get("TRITON_INTERPRET") == "1"
    place = None if interpreted or simulated else lambda tensor: tensor.to("cuda")
    made = execute.tensors(problem, generate(problem), place=place)
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    leaves = {n: x.requires_grad_() if n in execute.GRADIENTS else x for n, x in made.items()}
    launches: list[str] = []
    try:
        if interpreted:
            from ..interpreter import session
            from ..interpreter.watching import watching

            with watching(lambda seen: launches.append(seen.name)), session():
                o, _ = kernel.run(**execute.arguments(case, leaves))
                backward = _has_backward(o, leaves)
        elif simulated:
            from ..ptx.architectures import architecture
            from ..ptx.launch import judging
            from ..ptx.schedules import ROUND_ROBIN

            with judging(architecture(simulated), (ROUND_ROBIN,), lambda seen: launches.append(seen.kernel)):
                o, _ = kernel.run(**execute.arguments(case, leaves))
                backward = _has_backward(o, leaves)
        else:
            o, _ = kernel.run(**execute.arguments(case, leaves))
            backward = _has_backward(o, leaves)
    except (Exception, SystemExit):
        return _Seen(differentiable=True, launches=True)
    return _Seen(
        differentiable=backward,
        launches=bool(launches) or not (interpreted or simulated),
    )


def _has_backward(o: Any, leaves: Mapping[str, torch.Tensor]) -> bool:
    """Whether gradients flow: an autograd function may have no backward pass, and says so when it is asked for one."""
    if not (isinstance(o, torch.Tensor) and o.requires_grad):
        return False
    try:
        torch.autograd.grad(o, [x for x in leaves.values() if x.requires_grad], torch.ones_like(o), allow_unused=True)
    except NotImplementedError:
        return False
    except Exception:
        pass  # judging it will show its fault
    return True


_SIZES = (16, 32, 64, 128)
"""Chunk sizes that a function with an argument for them is asked for."""


def _tried(function: Callable[..., Any], convention: Convention, simulated: str) -> dict[str, Any]:
    """Options that a function takes and its signature does not tell: more value heads than key heads, and chunk sizes.

    A function that raises, or leaves part of its answer out, does not take them.
    """
    if simulated or os.environ.get("TRITON_INTERPRET") != "1":
        return {}
    found: dict[str, Any] = {}
    problem = _small(convention)
    if not convention.grouped_heads:
        grouped = replace(convention, grouped_heads=True)
        if _answers(function, grouped, replace(problem, H=2, HV=4)):
            found["grouped_heads"] = True
    if "chunk_size" in convention.options:
        default = inspect.signature(function).parameters["chunk_size"].default
        first = default if default in _SIZES else 64
        others = [size for size in _SIZES if size != first]
        taken = (first, *(size for size in others if _answers(function, convention, problem, size)))
        found["chunk_sizes"] = lambda problem: taken
    return found


def _small(convention: Convention) -> Problem:
    options = convention.options
    return Problem(
        rule=RULES[convention.rules[0]], T=3, K=16, V=16,
        initial_state="initial_state" in options, final_state="output_final_state" in options,
    )  # fmt: skip


def _answers(function: Callable[..., Any], convention: Convention, problem: Problem, chunk_size: int = 64) -> bool:
    """Whether a call gives a whole answer of the right shape. An element that nothing has written is NaN here."""
    from ..interpreter import session

    kernel = adapt(function, convention)
    case = Case(problem=problem, config=LaunchConfig(chunk_size=chunk_size))
    made = execute.tensors(problem, generate(problem))
    try:
        with session(memory=True) as watched, torch.no_grad():
            o, ht = kernel.run(**execute.arguments(case, made))
        answers = [(o, made["v"].shape)] + ([(ht, made["h0"].shape)] if ht is not None and "h0" in made else [])
        whole = all(x.shape == shape and bool(torch.isfinite(x).all()) for x, shape in answers)
    except Exception:
        return False
    return whole and not watched.faults


def package_of(function: Callable[..., Any]) -> str | None:
    """Distribution and version of the package that the function comes from, if it is installed."""
    package = (getattr(function, "__module__", None) or "").partition(".")[0]
    for distribution in metadata.packages_distributions().get(package, ()):
        return f"{distribution} {metadata.version(distribution)}"
    return None
