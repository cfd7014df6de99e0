"""Judge many cells in child processes that may crash or hang. Every verdict is stored the moment it is reached."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

from ..cases import profiles
from ..cases.cell import ORACLE_KERNEL, Cell
from ..cases.replay import Replay, StageReplay
from ..cases.target_names import is_package
from ..process.limits import WORKER_BYTES
from ..process.lost_device import EXIT_CODE
from ..process.pool import Failure, Workers, one_thread
from ..properties import load
from ..ptx.library import digest as engine_digest
from ..verdicts.judgement import Arithmetic, Counterexample, Verdict, is_compiled
from . import worker
from .cache import VerdictStore
from .served_cases import served_digest
from .stages import RULE
from .worker import not_judged

_SLOW = 5
"""How much longer a cell may take of a package, which meets all regressions and whose kernels are not made for speed in an
interpreter, and of compiled code, which has to be compiled."""

OnVerdict = Callable[[Verdict], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How cells are judged. fresh: judge again the cells that the store knows. jobs: child processes."""

    profile: str
    device: str
    seed: int
    tau: float
    jobs: int
    fresh: bool = False

    def key(self, store: VerdictStore, cell: Cell) -> str:
        """The store's name for a cell judged with these settings. How many jobs there are changes no verdict."""
        words = (self.profile, self.device, str(self.seed), repr(self.tau))
        if is_compiled(self.device):
            words += (engine_digest(),)
        words += (served_digest(self.device),)
        return store.key(cell.target, cell.kernel, cell.rule, cell.property, "/".join(cell.shared()), *words)


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
            for cell, verdict, known in _judge(workers, waiting, settings):
                if known:
                    store.put(settings.key(store, cell), verdict)
                take(verdict)
    return verdicts


def replay(replays: Sequence[tuple[str, Replay | StageReplay]], device: str, tau: float) -> Iterable[Verdict]:
    """Verdicts on single cases of named targets, one at a time, each in a child process."""
    settings = Settings(profile="nightly", device=device, seed=0, tau=tau, jobs=1)
    with _workers(settings) as workers:
        for target, wanted in replays:
            of_stage = isinstance(wanted, StageReplay)
            rule = RULE if of_stage else wanted.case.problem.rule.name
            cell = Cell(target=target, kernel=wanted.kernel, rule=rule, property=wanted.prop)
            yield from (verdict for _, verdict, _ in _judge(workers, [cell], settings, wanted))


def _workers(settings: Settings) -> Workers:
    # A GPU's own libraries take gigabytes of a process.
    limit = None if settings.device == "cuda" else WORKER_BYTES
    return Workers(settings.jobs, one_thread, interpret=settings.device == "interpreter", memory=limit)


def _judge(
    workers: Workers, cells: Sequence[Cell], settings: Settings, only: Replay | StageReplay | None = None
) -> Iterator[tuple[Cell, Verdict, bool]]:
    """Cells with their verdicts, in the order in which they are reached, and whether a later run may rely on them.

    only: judge them by this one case. Cells whose process died or was late are judged once more at the end, one by one: a
    system that ran out of memory kills whom it likes.
    """
    package = any(is_package(cell.target) for cell in cells)
    slow = package or is_compiled(settings.device)
    seconds = profiles.named(settings.profile).cell_seconds * (_SLOW if slow else 1)
    folder = workers.folder()
    tasks = [
        worker.CellTask(
            cell=cell, profile=settings.profile, seed=settings.seed, tau=settings.tau, device=settings.device,
            current=folder / f"{index}.case", only=only.case if isinstance(only, Replay) else None,
            only_seed=only.seed if isinstance(only, StageReplay) else None,
        )
        for index, cell in enumerate(cells)
    ]  # fmt: skip
    left, again = dict(enumerate(tasks)), []
    try:
        for index, found in workers.run(worker.run, [(task,) for task in tasks], None, tries=1, busy=seconds):
            task = left.pop(index)
            if isinstance(found, Failure):
                again.append(task)
            else:
                yield task.cell, found, True
        while again:
            ((_, found),) = workers.run(worker.run, [(again[0],)], None, tries=1, busy=seconds)
            task = again.pop(0)
            known = not isinstance(found, Failure) or _by_itself(found)
            yield task.cell, _failed(task, found, seconds) if isinstance(found, Failure) else found, known
    except BrokenProcessPool:
        for task in (*left.values(), *again):
            yield task.cell, not_judged(task.cell, "the child processes end before they can take a task"), False


_OWN_DEATHS = (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
"""Signals by which a process dies of its own fault; any other is sent by somebody."""


def _by_itself(failure: Failure) -> bool:
    return failure.code is not None and (failure.code == EXIT_CODE or -failure.code in _OWN_DEATHS)


def _failed(task: worker.CellTask, failure: Failure, seconds: float) -> Verdict:
    last = _last_case(task)
    where = f", last in {last}" if last else ", before it ran a case"
    if failure.outcome == "timeout":
        return not_judged(task.cell, f"no answer within {seconds:.0f} s of the processor, twice{where}")
    if failure.outcome == "memory":
        return not_judged(task.cell, f"it takes more than {WORKER_BYTES >> 30} GB of memory, twice{where}")
    assert failure.code is not None
    if last is None or not _by_itself(failure):
        return not_judged(task.cell, f"{failure}, twice{where}")
    return _crashed(task, "the device answered no more" if failure.code == EXIT_CODE else str(failure), last)


def _crashed(task: worker.CellTask, died: str, token: str) -> Verdict:
    """A child that died of the case it was running, twice: the kernel went where it must not."""
    if StageReplay.parse(token):
        problem, config = token.rpartition("@")[2], "-"
    else:
        case = Replay.parse(token).case
        problem, config = case.problem.token, case.config_token
    counterexample = Counterexample(problem=problem, config=config, message=died, replay=token)
    cell, prop = task.cell, load(task.cell.property)
    return Verdict(
        kernel=cell.kernel, rule=cell.rule, target=cell.target, property=cell.property,
        arithmetic=_arithmetic(prop.arithmetic, task.device),
        status="failed", kind="memory", problems=1, seconds=0.0, counterexample=counterexample,
    )  # fmt: skip


def _arithmetic(own: Arithmetic, device: str) -> Arithmetic:
    if is_compiled(device):
        return device  # pyright: ignore[reportReturnType]  # one of the architectures that are accepted
    return own if device == "interpreter" else "device"


def _last_case(task: worker.CellTask) -> str | None:
    return task.current.read_text() if task.current.exists() else None
