"""Which cells a run judges, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from ...specs.rule import NAMED, RELATIVES
from ..cases import profiles, regressions
from ..cases.cell import ORACLE_KERNEL, Cell
from ..properties import load
from ..properties.base import Property
from ..verdicts.judgement import Verdict, is_compiled
from .known_cases import adapt_problem
from .served_cases import served_configs

if TYPE_CHECKING:
    from ...kernels.registry import Kernel
    from ..targets.stage import Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """A person's selection. Every name in it exists. named: the rules were asked for by name, not taken because there are no
    others.
    """

    target: str
    rules: Sequence[str]
    properties: Sequence[str]
    named: bool = False
    kernels: Sequence[str] = ("*",)
    profile: str = "quick"
    device: str = "interpreter"
    seed: int = 0


def kernel_names(selection: Selection, kernels: Mapping[str, Any]) -> list[str]:
    """Kernels that any of the patterns selects. Raises ValueError that lists the kernels for one that selects none."""
    for pattern in selection.kernels:
        if not any(fnmatchcase(name, pattern) for name in kernels):
            raise ValueError(f"no kernel matches {pattern!r}; known: {', '.join(kernels)}")
    return [name for name in kernels if any(fnmatchcase(name, pattern) for pattern in selection.kernels)]


def matching(selection: Selection, stages: Mapping[str, Stage]) -> dict[str, Stage]:
    """Stages that any of the patterns selects. Raises ValueError for a pattern that selects none, and on a GPU."""
    if selection.device == "cuda":
        raise ValueError(
            "a stage is judged in the interpreter, or as compiled with --device sm_90; not with --device cuda"
        )
    return {name: stages[name] for name in kernel_names(selection, stages)}


def plan(selection: Selection, kernels: Mapping[str, Kernel]) -> tuple[list[Cell], list[Cell]]:
    """(cells of the oracle, to be judged first; cells of kernels, cheap properties first).

    A profile that does not take every rule takes them in turn: each kernel meets each property, and together they meet
    every rule.
    """
    chosen = kernel_names(selection, kernels)
    properties = [load(name) for name in selection.properties]
    compiled = is_compiled(selection.device)
    of_kernels = [prop for prop in properties if prop.needs_kernel and runs_on(prop, selection.device)]
    cells = []
    for column, prop in enumerate(sorted(of_kernels, key=lambda prop: prop.calls)):
        for row, name in enumerate(chosen):
            rules = [rule for rule in selection.rules if prop.relatives or rule not in RELATIVES]
            # All properties of compiled code share one program of each kernel, that of a rule that is served where there is one.
            served = [rule for rule in rules if compiled and (name, rule) in served_configs(selection.device)]
            rules = served or rules
            turn = (row * 3 + (0 if compiled else column) + selection.seed) % max(1, len(rules))
            in_turn = [*rules[turn:], *rules[:turn]]
            able = [rule for rule in in_turn if reason(prop, kernels[name], rule, compiled=compiled) is None]
            profile = profiles.named(selection.profile)
            dear = prop.calls >= profile.dear or (compiled and selection.profile == "quick")
            most = profile.systems if prop.relatives else profile.dear_rules if dear else profile.rules
            taken = able if selection.named and profile.everything else able[:most]
            among = tuple(rule for rule in taken if rule not in RELATIVES)
            cells += [
                Cell(target=selection.target, kernel=name, rule=rule, property=prop.name, among=among) for rule in taken
            ]
    # A kernel that takes minutes to compile is judged by the oracles of its own rules.
    rules = {cell.rule for cell in cells} if compiled and cells else set(selection.rules)
    oracle = [
        Cell(target=selection.target, kernel=ORACLE_KERNEL, rule=rule, property="oracle")
        for rule in selection.rules
        if rule in rules - set(RELATIVES)
        if any(prop.uses_oracle for prop in of_kernels) or "oracle" in selection.properties
    ]
    return oracle, cells


def runs_on(prop: Property, device: str) -> bool:
    """Whether a property can be judged on a device: "interpreter", "cuda" or an architecture."""
    if is_compiled(device):
        return prop.as_compiled or not prop.needs_kernel
    return prop.on_device if device == "cuda" else prop.arithmetic != "device"


def reason(prop: Property, kernel: Kernel, rule: str, *, compiled: bool = False) -> str | None:
    """Why a property cannot be judged for a kernel and a rule at all; None if it can."""
    if prop.needs_gradients and not kernel.differentiable:
        return "has no backward pass"
    if compiled and kernel.foreign and prop.ours_as_compiled:
        return "is not ours, and exact arithmetic on compiled code knows how our kernels are compiled"
    if compiled and not kernel.needs_triton:
        return "runs no Triton kernels, which could be compiled"
    if prop.arithmetic == "bounds" and not kernel.needs_triton:
        return "runs no Triton kernels, whose addresses could be checked"
    if rule in RELATIVES and not prop.relatives:
        return "is a system with a recurrence of its own"
    found: str | None = "no problem"
    for known in regressions.problems(NAMED[rule]).values():
        problem = adapt_problem(prop, kernel, known)
        accepted = kernel.accepts(problem)
        found = prop.applies(kernel, problem) if accepted is True else str(accepted or "not accepted")
        if found is None:
            return None
    return found


def inapplicable(selection: Selection, kernels: Mapping[str, Kernel]) -> list[Verdict]:
    """A verdict for every property that cannot be judged for a kernel on any rule, with the reason.

    Where rules were named, each that a kernel does not compute is reported, too.
    """
    found = []
    for name in kernel_names(selection, kernels):
        for prop in map(load, selection.properties):
            if not prop.needs_kernel or not runs_on(prop, selection.device):
                continue
            compiled = is_compiled(selection.device)
            reasons = {rule: reason(prop, kernels[name], rule, compiled=compiled) for rule in selection.rules}
            if not selection.named and None in reasons.values():
                continue
            told = {rule: why for rule, why in reasons.items() if why is not None}
            if not selection.named:
                # The rules that a kernel does compute say more than those that it does not.
                own = [rule for rule in told if rule in kernels[name].rules]
                told = {rule: told[rule] for rule in own or list(told)[:1]}
            found += [
                Verdict(kernel=name, rule=rule, target=selection.target, property=prop.name, arithmetic=prop.arithmetic,
                        status="inapplicable", problems=0, seconds=0.0, notes=(why,))
                for rule, why in told.items()
            ]  # fmt: skip
    return found
