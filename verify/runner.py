"""Judge many cells in child processes that may crash or hang. Every verdict is stored the moment it is reached."""

from __future__ import annotations

import multiprocessing
import os
import signal
import tempfile
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pebble import ProcessExpired, ProcessPool

from . import worker
from .calibrate import Measured, Share, measure
from .calibration_log import Log
from .case import Case, Replay
from .check import ORACLE_KERNEL, Cell
from .interruption import heed
from .profiles import PROFILES
from .properties import load
from .store import Store
from .targets import is_package
from .verdict import Counterexample, Verdict

_POOL_STARTS = 4
"""A child that dies before it took a task breaks the whole pool; it is then started again this often."""

_PACKAGE = 5
"""How much longer a cell of a package may take: it meets all of the corpus, and its kernels are not made for speed in an
interpreter."""

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

    def key(self, store: Store, cell: Cell) -> str:
        """The store's name for a cell judged with these settings. How many jobs there are changes no verdict."""
        words = (self.profile, self.device, str(self.seed), repr(self.tau))
        return store.key(cell.target, cell.kernel, cell.rule, cell.property, *words)


def run(
    oracle: Iterable[Cell], cells: Iterable[Cell], settings: Settings, store: Store, on_verdict: OnVerdict
) -> list[Verdict]:
    """The verdicts of all cells, those of the oracle first; kernels are not judged by an oracle that failed.

    `on_verdict` is told each as it arrives. KeyboardInterrupt passes through after the children have been stopped.
    """
    verdicts: list[Verdict] = []

    def take(verdict: Verdict) -> None:
        verdicts.append(verdict)
        on_verdict(verdict)

    with tempfile.TemporaryDirectory(prefix="deltaproof-") as scratch, _Children(settings, Path(scratch)) as children:
        for batch in (list(oracle), list(cells)):
            wrong = {v.rule for v in verdicts if v.kernel == ORACLE_KERNEL and v.status != "held"}
            waiting = []
            for cell in batch:
                if cell.rule in wrong and load(cell.property).uses_oracle:
                    take(_not_judged(cell, "the oracle of this rule did not hold"))
                elif not settings.fresh and (known := store.get(settings.key(store, cell))) is not None:
                    take(known)
                else:
                    waiting.append(cell)
            for cell, verdict in children.judge(waiting):
                store.put(settings.key(store, cell), verdict)
                take(verdict)
    return verdicts


def replay(replays: Sequence[tuple[str, Replay]], device: str, tau: float) -> Iterable[Verdict]:
    """Verdicts on single cases of named targets, one at a time, each in a child process."""
    settings = Settings(profile="nightly", device=device, seed=0, tau=tau, jobs=1)
    with tempfile.TemporaryDirectory(prefix="deltaproof-") as scratch, _Children(settings, Path(scratch)) as children:
        for target, wanted in replays:
            rule = wanted.case.problem.rule.name
            cell = Cell(target=target, kernel=wanted.kernel, rule=rule, property=wanted.prop)
            yield from (verdict for _, verdict in children.judge([cell], only=wanted.case))


def calibrate(shares: Sequence[Share], jobs: int, log: Log, on_share: Callable[[Measured], None]) -> list[Measured]:
    """Row ratios of all shares, measured in child processes; those of the log first. KeyboardInterrupt passes through."""
    found = []
    waiting = []
    for share in shares:
        known = log.get(share)
        if known is None:
            waiting.append(share)
        else:
            found.append(known)
            on_share(known)
    with child_pool(jobs) as pool:
        futures: dict[Any, Share] = {pool.schedule(measure, args=(share,)): share for share in waiting}
        try:
            pending = set(futures)
            while pending:
                heed()
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                for future in done:
                    found.append(future.result())
                    log.put(futures[future], found[-1])
                    on_share(found[-1])
        except BaseException:
            pool.stop()
            raise
    return found


class _Children:
    """A pool of child processes, started when the first cell needs one."""

    def __init__(self, settings: Settings, scratch: Path) -> None:
        self._settings = settings
        self._scratch = scratch
        self._pool: ProcessPool | None = None
        self._tasks = 0

    def __enter__(self) -> _Children:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def judge(self, cells: list[Cell], *, only: Case | None = None) -> Iterable[tuple[Cell, Verdict]]:
        """Cells with their verdicts, in the order in which they are reached; `only` judges them by one case."""
        left = list(cells)
        for _ in range(_POOL_STARTS):
            try:
                for cell, verdict in self._judge_in_one_pool(list(left), only):
                    left.remove(cell)
                    yield cell, verdict
                return
            except BrokenProcessPool:
                self._stop()
        for cell in left:
            yield cell, _not_judged(cell, "the child processes end before they can take a task")

    def _judge_in_one_pool(self, cells: list[Cell], only: Case | None) -> Iterable[tuple[Cell, Verdict]]:
        if not cells:
            return
        pool = self._pool = self._pool or child_pool(self._settings.jobs)
        tasks = {cell: self._task(cell, only) for cell in cells}
        package = any(is_package(cell.target) for cell in cells)
        timeout = PROFILES[self._settings.profile].cell_seconds * (_PACKAGE if package else 1)
        futures: dict[Any, Cell] = {
            pool.schedule(worker.run, args=(task,), timeout=timeout): cell for cell, task in tasks.items()
        }
        pending = set(futures)
        while pending:
            # The timeout is how long an interruption may wait.
            heed()
            done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                cell = futures[future]
                yield cell, _verdict_of(future, tasks[cell], timeout)

    def _task(self, cell: Cell, only: Case | None) -> worker.Task:
        settings = self._settings
        self._tasks += 1
        return worker.Task(
            cell=cell,
            profile=settings.profile,
            seed=settings.seed,
            tau=settings.tau,
            device=settings.device,
            current=self._scratch / f"{self._tasks}.case",
            only=only,
        )

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.stop()
            self._pool.join()
            self._pool = None


def child_pool(jobs: int) -> ProcessPool:
    """A pool of child processes that may crash or hang."""
    # Spawned, not forked: Triton reads its flag when kernels are imported, and threads do not survive a fork.
    os.environ.update(worker.ENVIRONMENT)
    return ProcessPool(
        max_workers=jobs,
        initializer=worker.start,
        initargs=(os.getpid(),),
        context=multiprocessing.get_context("spawn"),
    )


def _verdict_of(future: Any, task: worker.Task, timeout: float) -> Verdict:
    try:
        return future.result()
    except ProcessExpired as error:
        return _crashed(task, error.exitcode)
    except TimeoutError:
        return _not_judged(task.cell, f"no answer within {timeout:.0f} s, last in {_last_case(task)}")
    except BrokenProcessPool:
        raise
    except Exception as error:
        return _not_judged(task.cell, f"{type(error).__name__}: {' '.join(str(error).split())[:300]}")


def _crashed(task: worker.Task, code: int) -> Verdict:
    """A child that died while running a case: the kernel went where it must not."""
    died = f"the process died of {signal.Signals(-code).name}" if code < 0 else f"the process ended with code {code}"
    token = _last_case(task)
    if token is None:
        return _not_judged(task.cell, f"{died} before it ran a case")
    case = Replay.parse(token).case
    counterexample = Counterexample(problem=case.problem.token, config=case.config_token, message=died, replay=token)
    cell, prop = task.cell, load(task.cell.property)
    return Verdict(
        kernel=cell.kernel, rule=cell.rule, target=cell.target, property=cell.property,
        arithmetic=prop.arithmetic if task.device == "interpreter" else "device",
        status="failed", kind="memory", problems=1, seconds=0.0, counterexample=counterexample,
    )  # fmt: skip


def _not_judged(cell: Cell, note: str) -> Verdict:
    return Verdict(
        kernel=cell.kernel, rule=cell.rule, target=cell.target, property=cell.property,
        arithmetic=load(cell.property).arithmetic, status="error", problems=0, seconds=0.0, notes=(note,),
    )  # fmt: skip


def _last_case(task: worker.Task) -> str | None:
    return task.current.read_text() if task.current.exists() else None
