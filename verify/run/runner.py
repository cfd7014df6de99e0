"""Judge many cells in child processes that may crash or hang. Every verdict is stored the moment it is reached."""

from __future__ import annotations

import signal
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path

from ..cases.case import Case, Replay
from ..cases.cell import ORACLE_KERNEL, Cell
from ..cases.profiles import PROFILES
from ..cases.target_names import is_package
from ..process.lost_device import EXIT_CODE
from ..process.pool import Failure, Workers, one_thread
from ..properties import load
from ..ptx.library import digest as engine_digest
from ..verdicts.verdict import Arithmetic, Counterexample, Verdict
from . import worker
from .cache import VerdictStore
from .served_cases import served_digest
from .worker import not_judged

_SLOW = 5
"""How much longer a cell may take of a package, which meets all regressions and whose kernels are not made for speed in an
interpreter, and of compiled code, which has to be compiled."""

OnVerdict = Callable[[Verdict], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How cells are judged. fresh: judge again what the store knows. jobs: child processes."""

    profile: str
    device: str
    seed: int
    tau: float
    jobs: int
    fresh: bool = False

    def key(self, store: VerdictStore, cell: Cell) -> str:
        """The store's name for a cell judged with these settings. How many jobs there are changes no verdict."""
        words = (self.profile, self.device, str(self.seed), repr(self.tau))
        if self.device.startswith("sm_"):
            words += (engine_digest(), served_digest(self.device))
        return store.key(cell.target, cell.kernel, cell.rule, cell.property, *words)


def run(
    oracle: Iterable[Cell], cells: Iterable[Cell], settings: Settings, store: VerdictStore, on_verdict: OnVerdict
) -> list[Verdict]:
    """The verdicts of all cells, those of the oracle first; kernels are not judged by an oracle that failed.

    `on_verdict` is told each as it arrives. KeyboardInterrupt passes through after the children have been stopped.
    """
    verdicts: list[Verdict] = []

    def take(verdict: Verdict) -> None:
        verdicts.append(verdict)
        on_verdict(verdict)

    with _workers(settings) as workers:
        for batch in (list(oracle), list(cells)):
            wrong = {v.rule for v in verdicts if v.kernel == ORACLE_KERNEL and v.status != "held"}
            waiting = []
            for cell in batch:
                if cell.rule in wrong and load(cell.property).uses_oracle:
                    take(not_judged(cell, "the oracle of this rule did not hold"))
                elif not settings.fresh and (known := store.get(settings.key(store, cell))) is not None:
                    take(known)
                else:
                    waiting.append(cell)
            for cell, verdict in _judge(workers, waiting, settings):
                store.put(settings.key(store, cell), verdict)
                take(verdict)
    return verdicts


def replay(replays: Sequence[tuple[str, Replay]], device: str, tau: float) -> Iterable[Verdict]:
    """Verdicts on single cases of named targets, one at a time, each in a child process."""
    settings = Settings(profile="nightly", device=device, seed=0, tau=tau, jobs=1)
    with _workers(settings) as workers:
        for target, wanted in replays:
            rule = wanted.case.problem.rule.name
            cell = Cell(target=target, kernel=wanted.kernel, rule=rule, property=wanted.prop)
            yield from (verdict for _, verdict in _judge(workers, [cell], settings, wanted.case))


def _workers(settings: Settings) -> Workers:
    return Workers(settings.jobs, one_thread, interpret=settings.device == "interpreter")


def _judge(
    workers: Workers, cells: Sequence[Cell], settings: Settings, only: Case | None = None
) -> Iterator[tuple[Cell, Verdict]]:
    """Cells with their verdicts, in the order in which they are reached; `only` judges them by one case."""
    package = any(is_package(cell.target) for cell in cells)
    slow = package or settings.device.startswith("sm_")
    timeout = PROFILES[settings.profile].cell_seconds * (_SLOW if slow else 1)
    left = dict(enumerate(cells))
    with tempfile.TemporaryDirectory(prefix="deltaproof-") as scratch:
        tasks = [
            worker.CellTask(
                cell=cell, profile=settings.profile, seed=settings.seed, tau=settings.tau, device=settings.device,
                current=Path(scratch) / f"{index}.case", only=only,
            )
            for index, cell in left.items()
        ]  # fmt: skip
        try:
            # A process that dies says something about the kernel, the first time, too.
            for index, found in workers.run(worker.run, [(task,) for task in tasks], timeout, tries=1):
                yield left.pop(index), _failed(tasks[index], found, timeout) if isinstance(found, Failure) else found
        except BrokenProcessPool:
            for cell in left.values():
                yield cell, not_judged(cell, "the child processes end before they can take a task")


def _failed(task: worker.CellTask, failure: Failure, timeout: float) -> Verdict:
    if failure.code is not None:
        return _crashed(task, failure.code)
    return not_judged(task.cell, f"no answer within {timeout:.0f} s, last in {_last_case(task)}")


def _crashed(task: worker.CellTask, code: int) -> Verdict:
    """A child that died while running a case: the kernel went where it must not."""
    died = f"the process died of {signal.Signals(-code).name}" if code < 0 else f"the process ended with code {code}"
    if code == EXIT_CODE:
        died = "the device answered no more"
    token = _last_case(task)
    if token is None:
        return not_judged(task.cell, f"{died} before it ran a case")
    case = Replay.parse(token).case
    counterexample = Counterexample(problem=case.problem.token, config=case.config_token, message=died, replay=token)
    cell, prop = task.cell, load(task.cell.property)
    return Verdict(
        kernel=cell.kernel, rule=cell.rule, target=cell.target, property=cell.property,
        arithmetic=_arithmetic(prop.arithmetic, task.device),
        status="failed", kind="memory", problems=1, seconds=0.0, counterexample=counterexample,
    )  # fmt: skip


def _arithmetic(own: Arithmetic, device: str) -> Arithmetic:
    if device.startswith("sm_"):
        return device  # pyright: ignore[reportReturnType]  # one of the architectures that are accepted
    return own if device == "interpreter" else "device"


def _last_case(task: worker.CellTask) -> str | None:
    return task.current.read_text() if task.current.exists() else None
