"""Judge many faults in child processes. Every result is kept the moment it is there, so that a run can go on later."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from ..cases.replay import Replay
from ..process.limits import WORKER_BYTES
from ..process.pool import Failure, Workers, one_thread
from . import judge, peers
from .judge import MutantResult
from .mutant import Mutant
from .peers import PeerResult
from .sources import Usage
from .suite import read_suite, relevant, write_suite

_ONE_CASE = 180.0
"""Seconds of processor time beyond its timeout after which a fault is given up: it hangs in a case."""

Found = TypeVar("Found", MutantResult, PeerResult)
Task = TypeVar("Task", judge.MutantTask, peers.PeerTask)


@dataclass(frozen=True, slots=True, kw_only=True)
class CampaignSettings:
    """How faults are judged. digest: of all sources that a result depends on; words: everything else it depends on.

    jobs: child processes. timeout: seconds of processor time after which a fault counts as survived.
    """

    target: str
    tau: float
    jobs: int
    folder: Path
    timeout: float
    profile: str
    digest: str
    words: tuple[str, ...] = ()

    @property
    def log(self) -> Path:
        """Where results are kept, one per line."""
        name = _hash(self.digest, self.target, self.profile, repr(self.tau), *self.words)
        return self.folder / f"{name}.jsonl"

    @property
    def suite_path(self) -> Path:
        """Where the suite of the profile is kept."""
        return self.folder / f"suite-{_hash(self.digest, self.target, self.profile)}"


def cached_suite(setting: CampaignSettings, make: Callable[[], list[Replay]]) -> list[Replay]:
    """The result of `make`, kept beside the results: to draw all the cases of a profile takes a minute or two."""
    if setting.suite_path.exists():
        return read_suite(setting.suite_path)
    suite = make()
    write_suite(suite, setting.suite_path)
    return suite


def run(
    mutants: Sequence[Mutant],
    suite: Sequence[Replay],
    usage: Usage,
    setting: CampaignSettings,
    on_result: Callable[[MutantResult], None],
) -> list[MutantResult]:
    """The verdicts of verification on all mutants. The suite is the one that `cached_suite` has kept."""

    def task(mutant: Mutant) -> judge.MutantTask:
        tests = tuple(relevant(mutant, suite, usage))
        return judge.MutantTask(
            mutant=mutant,
            suite_path=setting.suite_path,
            tests=tests,
            target=setting.target,
            tau=setting.tau,
            timeout=setting.timeout,
        )

    return collect(mutants, task, judge.run, _crashed, setting, MutantResult, on_result)


def run_peers(
    mutants: Sequence[Mutant], usage: Usage, setting: CampaignSettings, on_result: Callable[[PeerResult], None]
) -> list[PeerResult]:
    """The answers of others' tolerances on all mutants."""

    def task(mutant: Mutant) -> peers.PeerTask:
        users = sorted({(kernel, rule) for kernel, rule, _ in usage.users[mutant.function]})
        return peers.PeerTask(mutant=mutant, target=setting.target, users=tuple(users))

    return collect(mutants, task, peers.run, peers.crashed, setting, PeerResult, on_result)


def collect(
    mutants: Sequence[Mutant],
    task_of: Callable[[Mutant], Task],
    work: Callable[[Task], Found],
    crashed: Callable[[Mutant], Found],
    setting: CampaignSettings,
    kind: type[Found],
    on_result: Callable[[Found], None],
) -> list[Found]:
    """The results of all mutants, those of an earlier run first. KeyboardInterrupt passes through."""
    known = {id: result for id, result in read(setting.log, kind).items() if not _cut_short(result)}
    results = [known[mutant.id] for mutant in mutants if mutant.id in known]
    for result in results:
        on_result(result)
    waiting = [mutant for mutant in mutants if mutant.id not in known]
    if not waiting:
        return results
    setting.folder.mkdir(parents=True, exist_ok=True)
    with setting.log.open("a") as log:
        for result in _in_children([(mutant, task_of(mutant)) for mutant in waiting], work, crashed, setting):
            log.write(json.dumps(asdict(result)) + "\n")  # pyright: ignore[reportArgumentType]
            log.flush()
            os.fsync(log.fileno())
            results.append(result)
            on_result(result)
    return results


def _cut_short(result: Any) -> bool:
    """Whether more time could have told more."""
    return isinstance(result, MutantResult) and result.status == "survived" and judge.TIMED_OUT in result.reason


def read(log: Path, kind: type[Found]) -> dict[str, Found]:
    """Results of earlier runs by id. A line that was being written when the run died is left out."""
    found = {}
    for line in log.read_text().splitlines() if log.exists() else []:
        try:
            record = json.loads(line)
            found[record["id"]] = kind(**record)
        except (ValueError, TypeError, KeyError):
            continue
    return found


def _in_children(
    tasks: Sequence[tuple[Mutant, Task]],
    work: Callable[[Task], Found],
    crashed: Callable[[Mutant], Found],
    setting: CampaignSettings,
) -> Iterator[Found]:
    with Workers(setting.jobs, one_thread, interpret=True, memory=WORKER_BYTES) as workers:
        busy = setting.timeout + _ONE_CASE
        for index, found in workers.run(work, [(task,) for _, task in tasks], None, tries=1, busy=busy):
            yield crashed(tasks[index][0]) if isinstance(found, Failure) else found


def _hash(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()[:16]


def _crashed(mutant: Mutant) -> MutantResult:
    """Nobody needs a verifier to see that a kernel takes its process down, fills the memory or never ends."""
    return MutantResult(
        id=mutant.id, operator=mutant.operator, stage=mutant.stage, where=mutant.where, status="excluded",
        seconds=0.0, asked=0, crashes=1, reason="the process died, hung, or took too much memory",
    )  # fmt: skip
