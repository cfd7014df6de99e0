"""How often localisation names the right stage, over the faults that were killed, beside the score of guessing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..cases.replay import Replay
from ..execution.harness import Harness
from ..localise.locate import localise
from ..process.limits import WORKER_BYTES
from ..process.pool import Failure, Workers, one_thread
from ..properties import load
from ..run.judge import judge_case
from ..targets import load as load_target
from .engines import transform_of
from .judge import MutantResult
from .kept import forget
from .mutant import Mutant
from .pool import CampaignSettings

SCHEMA = 1
HOPELESS = 600.0
"""Seconds after which a fault is given up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """One killed fault. stage, function: where it was planted. named: the stage that localisation names, or None.

    right: the named stage runs the function with the fault in it. chance: of the stages that ran, the share that do, which
    is how often a guess among them is right. choices: how many stages ran.
    """

    id: str
    stage: str
    function: str
    operator: str
    named: str | None
    right: bool
    chance: float
    choices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LocateTask:
    """mutant: a fault. replay: the case that found it. target, tau: as in `verify all`."""

    mutant: Mutant
    replay: str
    target: str
    tau: float


def run(task: LocateTask) -> Located:
    """Localise one fault from the case that found it, as it stands: not made smaller first."""
    mutant, wanted = task.mutant, Replay.parse(task.replay)
    kernels = load_target(task.target).kernels
    harness = Harness(kernel=kernels[wanted.kernel], kernels=kernels, tau=task.tau, transform=transform_of(mutant))

    def check(case: Any) -> Any:
        forget()
        return judge_case(load(wanted.prop), case, harness)

    found = localise(check, wanted.case, check(wanted.case), harness, calls=0)
    running = [stage for stage, functions in found.ran.items() if mutant.function in functions]
    choices = len(found.ran)
    return Located(
        id=mutant.id, stage=mutant.stage, function=mutant.function.rpartition(":")[2], operator=mutant.operator,
        named=found.stage, right=found.stage in running, chance=len(running) / choices if choices else 0.0, choices=choices,
    )  # fmt: skip


def locate(
    mutants: Sequence[Mutant],
    results: Sequence[MutantResult],
    setting: CampaignSettings,
    on_located: Callable[[Located], None],
) -> list[Located]:
    """All killed faults, localised in child processes, those of an earlier run first. KeyboardInterrupt passes through."""
    by_id = {mutant.id: mutant for mutant in mutants}
    log = setting.log
    known = _read(log)
    found = []

    def take(located: Located) -> None:
        found.append(located)
        on_located(located)

    tasks = []
    for result in results:
        if result.status != "killed" or result.replay is None or result.id not in by_id:
            continue
        if result.id in known:
            take(known[result.id])
        else:
            mutant = by_id[result.id]
            tasks.append(LocateTask(mutant=mutant, replay=result.replay, target=setting.target, tau=setting.tau))
    if tasks:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a") as kept:
            for located in _run(tasks, setting.jobs):
                kept.write(json.dumps(asdict(located)) + "\n")
                kept.flush()
                take(located)
    return found


def _read(log: Path) -> dict[str, Located]:
    """Faults localised by earlier runs, by id. A line that was being written when the run died is left out."""
    found = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            located = Located(**json.loads(line))
        except (ValueError, TypeError):
            continue
        found[located.id] = located
    return found


def _run(tasks: Sequence[LocateTask], jobs: int) -> Iterator[Located]:
    with Workers(jobs, one_thread, interpret=True, memory=WORKER_BYTES) as workers:
        for index, found in workers.run(run, [(task,) for task in tasks], HOPELESS, tries=1):
            yield _nothing_named(tasks[index].mutant) if isinstance(found, Failure) else found


def _nothing_named(mutant: Mutant) -> Located:
    """It died, hung, or took too much memory, which is wrong."""
    function = mutant.function.rpartition(":")[2]
    return Located(id=mutant.id, stage=mutant.stage, function=function, operator=mutant.operator,
                   named=None, right=False, chance=0.0, choices=0)  # fmt: skip


def summary(located: Sequence[Located]) -> dict[str, Any]:
    """Shares over all faults, over those with more than one stage to choose from, and, every stage counting alike, over
    stages; chance beside each."""
    several = [one for one in located if one.choices != 1]
    stages = {stage: [one for one in several if one.stage == stage] for stage in sorted({x.stage for x in several})}
    rights, chances = (
        [_mean(getattr(one, name) for one in part) for part in stages.values()] for name in ("right", "chance")
    )
    return {
        "faults": len(located),
        "right": _rounded(_mean(one.right for one in located)),
        "chance": _rounded(_mean(one.chance for one in located)),
        "with_a_choice": {
            "faults": len(several),
            "right": _rounded(_mean(one.right for one in several)),
            "chance": _rounded(_mean(one.chance for one in several)),
            "right_by_stage": _rounded(_mean(rights)),
            "chance_by_stage": _rounded(_mean(chances)),
        },
        "stages": {
            stage: {
                "faults": len(part),
                "right": sum(one.right for one in part),
                "named": dict(Counter(one.named or "nothing" for one in part).most_common()),
            }
            for stage, part in stages.items()
        },
    }


def _mean(values: Any) -> float | None:
    found = list(values)
    return sum(found) / len(found) if found else None


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)


def document(located: Sequence[Located], environment: dict[str, str], setting: dict[str, Any]) -> dict[str, Any]:
    """The figure with every fault behind it, as JSON values."""
    ordered = sorted(located, key=lambda one: one.id)
    return {
        "schema": SCHEMA,
        "environment": environment,
        "setting": setting,
        "summary": summary(located),
        "faults": [{**asdict(one), "chance": round(one.chance, 4)} for one in ordered],
    }


def sentence(located: Sequence[Located]) -> str:
    """The figure in one line."""
    if not located:
        return "localisation: no fault was killed"
    of = summary(located)["with_a_choice"]
    if not of["faults"]:
        return "localisation: no fault was killed where there was more than one stage to choose from"
    return (
        f"localisation names the right stage for {of['right']:.1%} of {of['faults']} killed faults with more than one stage to "
        f"choose from ({of['right_by_stage']:.1%} with every stage counting alike); a guess, {of['chance']:.1%}"
    )
