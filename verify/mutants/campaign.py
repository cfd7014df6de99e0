"""A campaign: enumerate, draw, take the equivalent out, judge the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import equivalent, pool
from .draw import draw
from .engines import enumerate_mutants
from .engines.base import Engine
from .judge import MutantResult
from .mutant import Mutant, family
from .peers import PeerResult
from .prove import Comparison, compare
from .sources import Usage, usage
from .suite import each_case, suite_of

if TYPE_CHECKING:
    from ...kernels.registry import Kernel


@dataclass(frozen=True, slots=True, kw_only=True)
class MutantChoice:
    """A person's choice: the number of faults, the families of their operators, their stages, and the seed."""

    count: int
    seed: int
    families: Sequence[str]
    stages: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawnMutants:
    """every: all faults of the engine. points: those that there were to draw from. mutants: those drawn.

    usage: which kernels run which functions.
    """

    every: Sequence[Mutant]
    points: Sequence[Mutant]
    mutants: Sequence[Mutant]
    usage: Usage


def prepare(engine: Engine, kernels: Mapping[str, Kernel], choice: MutantChoice) -> DrawnMutants:
    """Raises ValueError for a stage that is not there, and where there is nothing to draw from."""
    found = usage(kernels)
    every = enumerate_mutants(engine, found.sources.values())
    stages = sorted({mutant.stage for mutant in every})
    for stage in choice.stages:
        if stage not in stages:
            raise ValueError(
                f"unknown stage {stage!r}; known: {', '.join(stages) or 'none, since no Triton kernel ran'}"
            )
    points = [
        mutant
        for mutant in every
        if family(mutant.operator) in choice.families and (not choice.stages or mutant.stage in choice.stages)
    ]
    if not points:
        raise ValueError("no operator finds a place in these kernels")
    return DrawnMutants(every=every, points=points, mutants=draw(points, choice.count, choice.seed), usage=found)


def judge_all(
    drawn: DrawnMutants,
    kernels: Mapping[str, Kernel],
    setting: pool.CampaignSettings,
    on_result: Callable[[MutantResult], None],
) -> list[MutantResult]:
    """The result of every fault drawn; those known to be equivalent first, on their committed argument."""
    entries = equivalent.read()
    results, waiting = [], []
    for mutant in drawn.mutants:
        argument = equivalent.accepted(mutant, entries, drawn.usage.sources)
        if argument is None:
            waiting.append(mutant)
            continue
        results.append(
            MutantResult(
                id=mutant.id,
                operator=mutant.operator,
                stage=mutant.stage,
                where=mutant.where,
                status="equivalent",
                seconds=0.0,
                asked=0,
                reason=argument,
            )
        )
        on_result(results[-1])
    suite = pool.cached_suite(setting, lambda: suite_of(setting.target, kernels, setting.profile)) if waiting else []
    return results + pool.run(waiting, suite, drawn.usage, setting, on_result)


def judge_by_peers(
    drawn: DrawnMutants,
    results: Sequence[MutantResult],
    setting: pool.CampaignSettings,
    on_result: Callable[[PeerResult], None],
) -> list[PeerResult]:
    """The answers of others' tolerances on the faults that count: neither equivalent nor mere crashes."""
    counted = {result.id for result in results if result.status in ("killed", "survived")}
    return pool.run_peers([m for m in drawn.mutants if m.id in counted], drawn.usage, setting, on_result)


def prove(
    drawn: DrawnMutants, results: Sequence[MutantResult], kernels: Mapping[str, Kernel], target: str, seconds: float,
    path: Path = equivalent.PATH,
) -> dict[str, Comparison]:  # fmt: skip
    """Compare faults that survived, or count as equivalent, bit for bit on the problems of the nightly profile.

    Those that are the same everywhere are entered among the equivalent ones; somebody must still write the argument.
    """
    wanted = {result.id for result in results if result.status in ("survived", "equivalent")}
    mutants = [mutant for mutant in drawn.mutants if mutant.id in wanted]
    if not mutants:
        return {}
    users = {name for mutant in mutants for name, _, _ in drawn.usage.users[mutant.function]}
    suite = each_case(target, {name: kernels[name] for name in kernels if name in users}, "nightly")
    found = compare(mutants, suite, kernels, drawn.usage.sources, seconds)
    entries = dict(equivalent.read(path))
    for mutant in mutants:
        comparison = found[mutant.id]
        if comparison.different is not None:
            entries.pop(mutant.id, None)
        elif comparison.launches:
            known = entries.get(mutant.id)
            entries[mutant.id] = equivalent.Equivalent(
                id=mutant.id,
                where=mutant.where,
                argument="" if known is None else known.argument,
                source=equivalent.digest(drawn.usage.sources[mutant.function]),
                launches=comparison.launches,
                complete=comparison.complete,
            )
    equivalent.write(entries, path)
    return found
