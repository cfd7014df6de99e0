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
from contextlib import contextmanager
from importlib.util import find_spec
from math import log2

from ..kernels.config import LaunchConfig
from ..results.gpus import identify
from ..results.key import Key
from ..results.record import Measured, Record
from ..specs.gpus import Gpu
from ..verify.interruption import heed
from ..verify.workers import Failure, Workers
from . import device
from .binary import Compilation
from .contest import Contest, Plan
from .device import Device, Sizes, Timed
from .gate import Answer, Question, Subject
from .points import Family, Point, points_of
from .ranking import Ranked, sizes
from .storage import Storage, open_storage
from .turns import Bench, Verdicts

SECONDS = 600.0
"""After which a gate or a timing counts as hanging; compiling is part of both."""
TRIALS = 100
"""Configurations timed per family and size of call, unless it is said otherwise."""
REFERENCE = (4096, 32)
"""The (tokens, heads) that most calls are taken to be near: what is closest to it is measured first."""


def measure(
    bench: Bench,
    ranked: Mapping[Family, Sequence[Ranked]],
    kept: Mapping[Point, Compilation],
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

    known: earlier records: what was measured on this device with this toolchain is not timed again. refused: what the
    interpreter found wrong. standing: what is served at a key now, by times that may be of another driver or Triton: ours take
    over once they include it. storage: where other workers may be at the same; a size is done when its finalists are, whoever
    timed them. trials: configurations per family and size, at most. after_each: called after every visit.
    """
    timed: dict[Key, list[Measured]] = defaultdict(list)
    for record in known:
        if isinstance(record, Measured) and bench.current(record):
            timed[record.key].append(record)
    plan = Plan(
        bench=bench, storage=storage or open_storage(None), kept=kept, timed=timed, refused=frozenset(refused),
        deadline=deadline, trials=trials, seed=seed,
    )  # fmt: skip
    verdicts = {family: Verdicts(bench, family, known) for family in ranked}
    points = {family: digest(family, kept) for family in ranked}
    served = standing or {}
    left = [
        Contest(
            plan=plan, family=family, size=Sizes(tokens=tokens, heads=heads), verdicts=verdicts[family],
            portfolio=_portfolio(family, few, kept, served.get(family.key(tokens, heads))), points=points[family],
        )
        for tokens, heads in by_use()
        for family, few in ranked.items()
    ]  # fmt: skip
    for contest in left:
        if time.monotonic() < deadline:
            contest.open()
            after_each()
    while left and time.monotonic() < deadline:
        before = len(left)
        for contest in list(left):
            if time.monotonic() < deadline and contest.decide():
                left.remove(contest)
                after_each()
        if len(left) == before and time.monotonic() < deadline:
            # Others are at the rest.
            heed()
            time.sleep(min(1.0, plan.storage.beat))
    return len(left)


def _portfolio(
    family: Family, few: Sequence[Ranked], kept: Mapping[Point, Compilation], served: LaunchConfig | None
) -> list[LaunchConfig]:
    """What the cost model likes, and what is served now if it was compiled here."""
    here = served is not None and all(point in kept for point in points_of(family, served))
    return list(dict.fromkeys([*(one.config for one in few), *([served] if served and here else [])]))


def digest(family: Family, kept: Mapping[Point, Compilation]) -> str:
    """Names the points of a family that were kept: equal names, equal candidates."""
    words = sorted(str(point) for point in kept if point.family == family)
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]


def by_use() -> list[tuple[int, int]]:
    """Every (tokens, heads), the nearest to REFERENCE first."""
    return sorted(
        sizes(), key=lambda size: sum(abs(log2(here / there)) for here, there in zip(size, REFERENCE, strict=True))
    )


def find(gpu: Gpu) -> Device | None:
    """The device of this machine if it is that GPU, told by its properties and not by its name."""
    with Workers(1, device.start) as workers:
        for _, found in workers.run(device.present, [()], SECONDS):
            if isinstance(found, Device):
                same = identify(found.arch, found.sm_count, found.memory_gib)
                return found if same and same.slug == gpu.slug else None
    return None


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
    """The device `present`, in a child process that may crash or hang. start: prepares the child."""
    if present.arch.startswith("sm_") and find_spec("pynvml") is None:
        warn(
            "nvidia-ml-py is not installed (deltaproof[nvml]): samples come without clocks, and throttling goes unseen"
        )
    flush, told = int(2 * gpu.l2_mib * 2**20), False
    with Workers(1, start) as workers:

        def timer(family: Family, size: Sizes, config: LaunchConfig, best: float | None) -> Timed | str:
            ((_, timed),) = workers.run(device.time_config, [(family, size, config, flush, best)], SECONDS)
            nonlocal told
            if isinstance(timed, Timed) and not timed.queued and not told:
                told = True
                warn(f"{family} {config.token}: its times are also those of its launches, as it waits for the device")
            return timed.outcome if isinstance(timed, Failure) else timed

        def judge(question: Question) -> Answer:
            ((_, answer),) = workers.run(device.judge, [(question,)], SECONDS)
            if isinstance(answer, Failure):
                return Answer(question=question, held=False, detail=answer.outcome)
            return answer

        yield Bench(gpu=gpu, device=present, timer=timer, judge=judge, record=record, step=step)
