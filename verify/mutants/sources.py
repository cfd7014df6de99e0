"""Which device functions the kernels of a target run: found by running them on one tiny problem per rule."""

from __future__ import annotations

import ast
import contextlib
import copy
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass, replace

from ...kernels.registry import Kernel
from ...specs.inputs.make import generate
from ...specs.problem import Problem
from ...specs.rule import RULES, Rule
from ..cases.replay import Case
from ..execution import execute
from ..verdicts.outcome import KernelRaised
from .mutant import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """sources: every device function seen, by name. users: name -> (kernel, rule, whether options were on) that ran it."""

    sources: Mapping[str, Source]
    users: Mapping[str, frozenset[tuple[str, str, bool]]]


def own_stages() -> tuple[str, ...]:
    """The stages of our own kernels: the modules that hold them."""
    from ...kernels import stages

    found = pkgutil.walk_packages(stages.__path__, f"{stages.__name__}.")
    return tuple(module.name.rpartition(".")[2] for module in found if not module.ispkg)


_SIZES = ((2, 17, 2), (64, 32, 32))
"""T, K and V, tried in turn: wide enough for two blocks of K in a narrow configuration, or whole tiles for who needs them."""


def usage(kernels: Mapping[str, Kernel]) -> Usage:
    """Run every kernel that runs Triton, plainly and with the options that add kernels. Rules it does not take are left out."""
    sources: dict[str, Source] = {}
    users: dict[str, set[tuple[str, str, bool]]] = {}
    for kernel in kernels.values():
        for rule in RULES.values() if kernel.needs_triton else ():
            for options in (False, True):
                for name, source in _functions(kernel, rule, options).items():
                    sources.setdefault(name, source)
                    users.setdefault(name, set()).add((kernel.name, rule.name, options))
    return Usage(sources=sources, users={name: frozenset(found) for name, found in users.items()})


def _functions(kernel: Kernel, rule: Rule, options: bool) -> dict[str, Source]:
    """The device functions of a call, forward and backward, by name; none where the kernel does not take such a call.

    In fp32 in two configurations, and without options in fp16, which some functions are for.
    """
    from ..interpreter import session

    gate = options and rule.decay != "none"
    problems = [Problem(rule=rule, T=T, K=K, V=V, qk_l2norm=options, gate_in_kernel=gate) for T, K, V in _SIZES]
    problem = next((problem for problem in problems if kernel.accepts(problem) is True), None)
    found: dict[str, Source] = {}
    if problem is None:
        return found

    def note(name: str, tree: ast.Module) -> ast.Module:
        if not name.startswith("triton."):  # the language's own
            found.setdefault(name, Source(name=name, tree=copy.deepcopy(tree)))
        return tree

    half = replace(problem, dtype="fp16")
    cases = [Case(problem=problem, config=config) for config in kernel.configs(problem)[:2]]
    cases += (
        [Case(problem=half, config=kernel.configs(half)[0])] if not options and kernel.accepts(half) is True else []
    )
    for case in cases:
        made = execute.tensors(case.problem, generate(case.problem))
        with session(transform=note), contextlib.suppress(KernelRaised):
            execute.run(kernel, case, made, gradients=kernel.differentiable)
    return found
