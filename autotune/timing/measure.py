"""`autotune --mode measure`: gate, time and search on the GPU that is here. Written to the design; it has not met a GPU yet.

Breadth first, since a budget may end at any time: the portfolio of every family, at the most used size of call before the
others; then a search for every family, again by size. Any number of workers, one for each GPU, may share the work through a
storage.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from math import log2
from pathlib import Path
from signal import Signals
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

from ...kernels.configs.launch_config import LaunchConfig
from ...results.files.one_line import one_line
from ...results.schema.gpus import identify
from ...results.schema.key import Key
from ...results.schema.record import Measured, Record
from ...specs.gpus import Gpu
from ...verify.compile.compilation import Compilation
from ...verify.process import pool
from ...verify.process.pool import Workers
from ...verify.process.signals import check_interrupt
from ..gates.interpreter import GateAnswer, GateQuestion, Subject
from ..model.ranking import Ranked, compiled, sizes
from ..space.points import Family, Point
from ..storage.database import Storage, open_storage
from . import device
from .device import CallSizes, Device, NoAnswer, Timed, TimingFailure
from .shared_trials import Bench, DeviceGate
from .tuning_job import Plan, TuningJob

T = TypeVar("T")

SECONDS = 600.0
"""After which a gate or a timing counts as hanging; compiling is part of both."""
ALIVE_SECONDS = 120.0
"""After which a device that is only asked whether it is there counts as hanging."""
TRIALS = 100
"""Configurations timed per family and size of call, unless it is said otherwise."""
MOST_USED = (4096, 32)
"""The (tokens, heads) that most calls are taken to be near: the sizes closest to it are measured first."""


def measure(
    bench: Bench,
    ranked: Mapping[Family, Sequence[Ranked]],
    survivors: Mapping[Point, Compilation],
    *,
    deadline: float,
    known: Sequence[Record] = (),
    refused: Collection[Subject] = (),
    standing: Mapping[Key, LaunchConfig] | None = None,
    storage: Storage | None = None,
    trials: int = TRIALS,
    seed: int = 0,
    after_each: Callable[[], object] = lambda: None,
) -> int:
    """Time families at every size of call; the number of (family, size) left when time was up (of time.monotonic()).

    known: earlier records: a configuration measured on this device with this toolchain is not timed again. refused:
    configurations that the interpreter found wrong. standing: the configuration served at a key now, by times that may be of
    another driver or Triton: ours take over once they include it. storage: where other workers may be at the same; a size is done
    when its finalists are, whoever timed them. trials: configurations per family and size, at most. after_each: called after
    every visit.
    """
    timed: dict[Key, list[Measured]] = defaultdict(list)
    for record in known:
        if isinstance(record, Measured) and bench.current(record):
            timed[record.key].append(record)
    plan = Plan(
        bench=bench, storage=storage or open_storage(None), survivors=survivors, timed=timed, refused=frozenset(refused),
        deadline=deadline, trials=trials, seed=seed,
    )  # fmt: skip
    verdicts = {family: DeviceGate(bench, family, known) for family in ranked}
    points = {family: digest(family, survivors) for family in ranked}
    served = standing or {}
    left = [
        TuningJob(
            plan=plan, family=family, size=CallSizes(tokens=tokens, heads=heads), verdicts=verdicts[family],
            portfolio=_portfolio(family, few, survivors, served.get(family.key(tokens, heads))), points=points[family],
        )
        for tokens, heads in by_use()
        for family, few in ranked.items()
    ]  # fmt: skip
    for job in left:
        if time.monotonic() < deadline:
            job.open()
            after_each()
    while left and time.monotonic() < deadline:
        before = len(left)
        for job in list(left):
            if time.monotonic() < deadline and job.decide():
                left.remove(job)
                after_each()
        if len(left) == before and time.monotonic() < deadline:
            # Others are at the rest.
            check_interrupt()
            time.sleep(min(1.0, plan.storage.heartbeat))
    return len(left)


def _portfolio(
    family: Family, few: Sequence[Ranked], survivors: Mapping[Point, Compilation], served: LaunchConfig | None
) -> list[LaunchConfig]:
    """The configurations that the cost model likes, and the one that is served now if it was compiled here."""
    here = [served] if served and compiled(family, served, survivors) else []
    return list(dict.fromkeys([*(one.config for one in few), *here]))


def digest(family: Family, survivors: Mapping[Point, Compilation]) -> str:
    """Names the points of a family that were kept: equal names, equal candidates."""
    words = sorted(str(point) for point in survivors if point.family == family)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def by_use() -> list[tuple[int, int]]:
    """Every (tokens, heads), the nearest to MOST_USED first."""
    return sorted(
        sizes(), key=lambda size: sum(abs(log2(here / there)) for here, there in zip(size, MOST_USED, strict=True))
    )


def find(gpu: Gpu) -> Device | None:
    """The device of this machine if it is that GPU: by its properties, and by its name among those that share them. Raises
    NoAnswer as `here`.
    """
    found = here()
    same = found and identify(found.arch, found.sm_count, found.memory_gib, found.name)
    return found if same and same.slug == gpu.slug else None


def here() -> Device | None:
    """The device of this machine. Raises NoAnswer if the process that asks it crashes or hangs."""
    with Workers(1, device.start) as workers:
        ((_, found),) = workers.run(device.present, [()], ALIVE_SECONDS)
    if isinstance(found, pool.Failure):
        raise NoAnswer(f"the device of this machine cannot be asked what it is: {_failure(found, '', ALIVE_SECONDS)}")
    return found


@contextmanager
def bench_of(
    gpu: Gpu,
    present: Device,
    record: Callable[[Record], object],
    step: Callable[[str], object] = lambda text: None,
    warn: Callable[[str], object] = lambda text: None,
    *,
    start: Callable[[], None] = device.start,
) -> Iterator[Bench]:
    """The device `present`, in a child process that may crash or hang. start: prepares the child.

    A crash or a hang is the configuration's only if a fresh child finds the device in order; timer and judge raise NoAnswer
    if it does not.
    """
    if present.arch.startswith("sm_") and find_spec("pynvml") is None:
        warn(
            "nvidia-ml-py is not installed (deltaproof[nvml]): samples come without clocks, and throttling goes unseen"
        )
    flush, told = int(2 * gpu.l2_mib * 2**20), False
    with TemporaryDirectory(prefix="deltaproof-", ignore_cleanup_errors=True) as folder:
        words = Path(folder) / "last-words"
        with Workers(1, partial(device.begin, start, words)) as workers:

            def timer(
                family: Family, size: CallSizes, config: LaunchConfig, best: float | None
            ) -> Timed | TimingFailure:
                timed = _run(workers, words, device.time_config, family, size, config, flush, best)
                nonlocal told
                if isinstance(timed, Timed) and not timed.queued and not told:
                    told = True
                    warn(
                        f"{family} {config.token}: its times are also those of its launches, as it waits for the device"
                    )
                return timed

            def judge(question: GateQuestion) -> GateAnswer:
                answer = _run(workers, words, device.judge, question)
                if isinstance(answer, TimingFailure):
                    return GateAnswer(question=question, held=False, detail=str(answer))
                if not answer.held and not answer.final:
                    _ask_device(workers, words, answer.detail)
                    warn(
                        f"{question.token} could not be judged and is not timed in this run: {one_line(answer.detail)}"
                    )
                return answer

            yield Bench(gpu=gpu, device=present, timer=timer, judge=judge, record=record, step=step)


def _run(workers: Workers, words: Path, task: Callable[..., T], *arguments: Any) -> T | TimingFailure:
    """The result of a task of the child; a failure where it crashes or hangs, and the device is in order after it."""
    words.unlink(missing_ok=True)
    ((_, result),) = workers.run(task, [arguments], SECONDS)
    if not isinstance(result, pool.Failure):
        return result
    failure = _failure(result, _read(words), SECONDS)
    _ask_device(workers, words, str(failure))
    return failure


def _ask_device(workers: Workers, words: Path, after: str) -> None:
    """Raise NoAnswer unless the device still computes. A child that was in use may be to blame itself: the second is fresh."""
    why = ""
    for _ in range(2):
        words.unlink(missing_ok=True)
        try:
            ((_, found),) = workers.run(device.alive, [()], ALIVE_SECONDS, tries=1)
        except BrokenProcessPool:
            why = "no process can be started"
            break
        if not isinstance(found, pool.Failure):
            return
        why = str(_failure(found, _read(words), ALIVE_SECONDS))
    raise NoAnswer(one_line(f"the device does not answer ({why[:200]}), after {after}"))


def _failure(ended: pool.Failure, words: str, seconds: float) -> TimingFailure:
    """The failure that the end of a process is. words: its exit reason, if it left one."""
    if ended.outcome == "timeout":
        return TimingFailure(reason="timeout", detail=f"no end within {seconds:.0f} s")
    if not words:
        code = ended.code or 0
        words = f"killed by {Signals(-code).name}" if -code in set(Signals) else f"exit code {code}"
    return TimingFailure(reason="crash", detail=one_line(words))


def _read(words: Path) -> str:
    return words.read_text(encoding="utf-8", errors="replace") if words.exists() else ""
