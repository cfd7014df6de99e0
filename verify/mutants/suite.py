"""The test suite of a profile: its cases of every kernel, one by one, cheap and deadly ones first.

They are the very cases of `verify all` with that profile. A fault is found by a profile if any of them fails, so the
order changes nothing but the time; within one price the order is that of the plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from ...results.files.atomic import replace
from ...specs.problem import Problem
from ...specs.rule import RULES
from ..cases.call_styles import words
from ..cases.profiles import PROFILES
from ..cases.replay import Replay
from ..properties import NAMES, load
from ..properties.reduction import GENERAL
from ..run.judge import cases_of
from ..run.plan import Selection, plan
from .engines import ENGINES
from .mutant import Mutant
from .sources import Usage

if TYPE_CHECKING:
    from ...kernels.registry import Kernel

_TIES = {"none": 0, "tied": 0, "scalar": 1, "channel": 2}
_PRICE = {"equality": 0.3, "memory": 0.5, "error": 1.0, "hostile_input": 100.0}
"""Of a kernel call in a property, in calls, where it is not 1: a property that finds many faults is asked early, one that finds
none last."""


def price(test: Replay) -> float:
    """About how long a test takes, over how likely a fault shows on so small and so plain a problem."""
    problem, config = test.case.problem, test.case.config
    chunk = config.chunk_size if config is not None and not test.kernel.startswith("recurrent") else 4
    programs = problem.HV * sum(math.ceil(length / chunk) for _, _, length in problem.sequences)
    prop = load(test.prop)
    calls = prop.calls * _PRICE.get(test.prop, 1.5) * (2 if prop.arithmetic == "exact" else 1)
    size = problem.B * problem.T * problem.HV * problem.K * problem.V
    options = (problem.H > 1, problem.HV > problem.H, problem.gate_heads == "key", problem.lengths is not None,
               problem.qk_l2norm, problem.gate_in_kernel, problem.initial_state, problem.final_state)  # fmt: skip
    likely = (1 - math.exp(-(1 + problem.T * problem.K) / 100)) * (1 + sum(options))
    return calls * (10 + programs + size / 2000) / likely


def each_case(target: str, kernels: Mapping[str, Kernel], profile: str) -> Iterator[Replay]:
    """The cases of a profile for kernels of a target, at its default seed, in the order of the plan."""
    selection = Selection(target=target, rules=tuple(RULES), properties=NAMES, profile=profile)
    for cell in plan(selection, kernels)[1]:
        for case in cases_of(cell, load(cell.property), kernels[cell.kernel], PROFILES[profile]):
            yield Replay(prop=cell.property, kernel=cell.kernel, case=case)


def suite_of(target: str, kernels: Mapping[str, Kernel], profile: str) -> list[Replay]:
    """All of them, cheap ones first."""
    found = each_case(target, kernels, profile)
    ranked: dict[tuple[str, int], list[Replay]] = {}
    for test in sorted(found, key=price):
        ranked.setdefault((test.prop, _magnitude(test.case.problem)), []).append(test)
    # The tenth test of a property on problems of one size finds less than the first, and than the first of a larger size.
    priced = [(price(x) * (1 + rank / 5), x) for of in ranked.values() for rank, x in enumerate(of)]
    return [test for _, test in sorted(priced, key=lambda pair: pair[0])]


def _magnitude(problem: Problem) -> int:
    """The same for problems whose numbers of tokens times heads are within a factor of four or so."""
    return round(math.log(max(problem.B * problem.T * problem.HV, 1), 4))


def write_suite(suite: Sequence[Replay], path: Path) -> None:
    """A replay token a line."""
    replace(path, "".join(f"{test.token}\n" for test in suite))
    read_suite.cache_clear()


@lru_cache(maxsize=1)
def read_suite(path: Path) -> list[Replay]:
    """Read `write_suite` back, once for all the tasks of a process."""
    return [Replay.parse(line) for line in path.read_text(encoding="utf-8").splitlines()]


def relevant(mutant: Mutant, suite: Sequence[Replay], usage: Usage) -> list[int]:
    """Indices of the tests whose kernel can run the mutated code at all, first those that are likely to show such a fault."""
    users = usage.users[mutant.function]
    kernels = {name for name, _, _ in users}
    found = [
        index
        for index, test in enumerate(suite)
        if any(
            (test.kernel, rule, option) in users
            or (test.prop == "chunk_invariance" and any(name.startswith("recurrent") for name in kernels))
            for rule in _rules(test)
            for option in {False, _with_options(test)}
        )
        and any(_may_run(mutant, test.case.problem, rule) for rule in _rules(test))
    ]
    likely = ENGINES[mutant.engine].likely
    return sorted(found, key=lambda index: not likely(mutant, suite[index]))


def _with_options(test: Replay) -> bool:
    """Whether any call of a test has options that add kernels; varied calls turn them on by themselves."""
    problem = test.case.problem
    return problem.qk_l2norm or problem.gate_in_kernel or "varied" in words(test.case.style)


def _rules(test: Replay) -> tuple[str, ...]:
    own = test.case.problem.rule.name
    return (own, GENERAL.name) if test.prop == "reduction" else (own,)


def _may_run(mutant: Mutant, problem: Problem, rule_name: str) -> bool:
    """False where a test on how gates are tied, around the mutated code, is known to be false."""
    if not mutant.function.startswith("deltaproof.kernels."):
        return True
    rule = RULES[rule_name]
    known = {"DECAY": _TIES[rule.decay], "ERASE": _TIES[rule.erase], "WRITE": _TIES[rule.write],
             "NONE": 0, "SCALAR": 1, "CHANNEL": 2}  # fmt: skip
    for guard in mutant.guards:
        try:
            if not eval(guard, {"__builtins__": {}}, known):
                return False
        except (NameError, TypeError, AttributeError):
            continue  # it depends on more than the rule
    return True
