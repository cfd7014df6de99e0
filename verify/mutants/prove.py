"""Whether a fault changes anything: every launch of the nightly profile, with the fault and without, bit for bit.

A launch is repeated alone, on the tensors that it started from. Where the launches of a kernel leave the same results, every
property gives the same answer.
"""

from __future__ import annotations

import ast
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from ...kernels.registry import Kernel
from ...specs.inputs.make import generate
from ..cases.replay import Case, Replay
from ..execution.harness import Harness, field_inputs
from ..interpreter import session
from ..interpreter.watching import Seen, watching
from ..process.signals import check_interrupt
from ..properties import load
from ..verdicts.outcome import KernelRaised, Unsupported
from .engines import transform_of
from .kept import forget
from .mutant import Mutant, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """launches: repeated with the fault, all to the same bits unless `different` says where they were not.

    complete: there was time for the whole suite.
    """

    launches: int
    different: str | None = None
    complete: bool = False


def compare(
    mutants: Sequence[Mutant], suite: Iterable[Replay], kernels: Mapping[str, Kernel], sources: Mapping[str, Source],
    seconds: float,
) -> dict[str, Comparison]:  # fmt: skip
    """Every fault on every test whose kernel runs its function; as many as `seconds` of processor time allow."""
    found = {mutant.id: Comparison(launches=0) for mutant in mutants}
    runners = {mutant.id: _callers(mutant.function, sources) for mutant in mutants}
    transforms = {mutant.id: transform_of(mutant) for mutant in mutants}
    done: set[tuple[str, Case, str]] = set()
    started = time.process_time()
    for test in suite:
        check_interrupt()
        if time.process_time() - started > seconds:
            return found
        arithmetic = "exact" if load(test.prop).arithmetic == "exact" else "faithful"
        if (test.kernel, test.case, arithmetic) in done or not kernels[test.kernel].needs_triton:
            continue
        done.add((test.kernel, test.case, arithmetic))
        seen = _launches(kernels[test.kernel], test.case, arithmetic)
        for mutant in mutants:
            known = found[mutant.id]
            own = [launch for launch in seen if _name(launch.function) in runners[mutant.id]]
            if known.different is None and own:
                wrong = _differs(own, transforms[mutant.id], arithmetic)
                where = None if wrong is None else f"{wrong} in {test.token}"
                found[mutant.id] = Comparison(launches=known.launches + len(own), different=where)
    return {id: replace(comparison, complete=True) for id, comparison in found.items()}


def _launches(kernel: Kernel, case: Case, arithmetic: str) -> list[Seen]:
    """All launches of one call, forward and backward; none where it cannot be judged."""
    harness = Harness(kernel=kernel)
    seen: list[Seen] = []
    try:
        with watching(seen.append):
            if arithmetic == "exact":
                harness.exact(case, field_inputs(case.problem))
            else:
                harness.faithful(case, generate(case.problem), gradients=kernel.differentiable)
    except (KernelRaised, Unsupported):
        return []
    return seen


def _differs(launches: Sequence[Seen], transform: Any, arithmetic: str) -> str | None:
    """Where repeating a launch with the fault leaves other bits; None if it does not."""
    forget()
    starts = [{name: x.clone() for name, x in launch.before.items()} for launch in launches]
    try:
        with session(arithmetic=arithmetic, transform=transform):  # pyright: ignore[reportArgumentType]
            for launch, tensors in zip(launches, starts, strict=True):
                kernel = getattr(sys.modules[launch.function.__module__], launch.function.__name__)
                kernel[launch.grid](**launch.scalars, **tensors)
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:100]}"
    for launch, tensors in zip(launches, starts, strict=True):
        for name, x in tensors.items():
            if not torch.equal(_bits(x), _bits(launch.after[name])):
                return f"{name} of {launch.name}"
    return None


def _bits(x: torch.Tensor) -> torch.Tensor:
    return x.contiguous().view(torch.uint8)


def _callers(function: str, sources: Mapping[str, Source]) -> frozenset[str]:
    """The functions that run `function`, itself included."""
    found = {function}
    while True:
        names = {name.rpartition(":")[2] for name in found}
        more = {
            name
            for name, source in sources.items()
            if any(isinstance(node, ast.Name) and node.id in names for node in ast.walk(source.tree))
        }
        if more <= found:
            return frozenset(found)
        found |= more


def _name(function: Any) -> str:
    return f"{function.__module__}:{function.__qualname__}"
