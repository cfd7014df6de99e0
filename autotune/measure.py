"""`autotune --mode measure`: gate, time and search on the GPU that is here. Written to the design; it has not met a GPU yet.

Per family and size of call: what the cost model ranks first is timed outside the search; then the search runs over the
likeliest tiles of every stage, judged by the time of the whole op; then the finalists are timed in turns, so that drift hits
them all alike. Any number of workers, one for each GPU, may share the work through a storage.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import product
from zlib import crc32

import numpy as np

from ..kernels.config import LaunchConfig
from ..kernels.space import op_tiles
from ..results.gpus import identify
from ..results.record import Measured, Record, record_to_line
from ..specs.gpus import Gpu
from ..verify.interruption import heed
from . import device
from .binary import Compilation
from .claims import Round
from .cost import estimate
from .device import SAMPLES, Device, Sizes, Timed
from .gate import Answer, Question
from .points import Family, Point, config_of
from .pool import Workers
from .ranking import Ranked, resources, sizes, whole
from .search import Spent, search
from .storage import Storage, open_storage
from .study import Config, Space, Study
from .turns import Bench, Turns, Verdicts, records_of

SECONDS = 600.0
"""After which a gate or a timing counts as hanging; compiling is part of both."""
TRIALS = 100
"""Configurations timed per family and size of call."""
FINALISTS = 8
ROUNDS = 3
FINALS = "finalists"
"""The one task of comparing them."""
TILES = {"chunk_fwd": 6, "chunk_train": 3}
"""Tiles per stage, chunk size and solver that the search may choose from: the whole product must stay enumerable."""


def measure(
    bench: Bench,
    family: Family,
    kept: Mapping[Point, Compilation],
    ranked: Sequence[Ranked],
    *,
    deadline: float,
    known: Sequence[Record] = (),
    storage: Storage | None = None,
    seed: int = 0,
) -> int:
    """Time a family at every size of call; the number of sizes that were left when time was up (of time.monotonic()).

    known: earlier records: what was measured on this device with this toolchain is not timed again. storage: where other
    workers may be at the same; a size is done when its finalists are, whoever timed them.
    """
    storage = storage or open_storage(None)
    verdicts = Verdicts(bench, family, known)
    left = list(sizes())
    while left and time.monotonic() < deadline:
        before = len(left)
        for tokens, heads in list(left):
            if _one_size(bench, family, Sizes(tokens=tokens, heads=heads), kept, ranked, verdicts,
                         deadline=deadline, known=known, storage=storage, seed=seed):  # fmt: skip
                left.remove((tokens, heads))
        if len(left) == before:
            # Others are at the rest.
            heed()
            time.sleep(min(1.0, storage.beat))
    return len(left)


def _one_size(
    bench: Bench,
    family: Family,
    size: Sizes,
    kept: Mapping[Point, Compilation],
    ranked: Sequence[Ranked],
    verdicts: Verdicts,
    *,
    deadline: float,
    known: Sequence[Record],
    storage: Storage,
    seed: int,
) -> bool:
    """Whether the size is done: searched, and its finalists compared."""
    name = bench.round_name(family, size)
    round, finals = Round(storage, name), Round(storage, f"{name} finalists")
    space, configs = candidates(family, kept, bench.gpu, size)
    portfolio = [one.config for one in ranked]
    turns = Turns(
        bench, family, size, round=round, configs=configs, need=lambda config: resources(family, config, kept),
        verdicts=verdicts, limit=min(TRIALS, len(space.feasible)) + len({*portfolio} - {*configs.values()}),
        deadline=deadline,
    )  # fmt: skip
    key = family.key(size.tokens, size.heads)
    here = [one for one in known if isinstance(one, Measured) and one.key == key and bench.current(one)]
    study: list[Study] = []

    def open_study() -> Study:
        # Every worker's proposals should be its own.
        own = (seed + crc32(round.owner.encode()) * (storage.name != "memory")) % 2**32
        studies = storage.studies if storage.name != "memory" else None
        study.append(Study(space, seed=own, storage=studies, name=name, again=storage.again))
        outside = {turns.point(config) for config in portfolio}
        study[0].fill({point: timing for point, timing in turns.timings.items() if point not in outside})
        return study[0]

    if over := finals.results().get(FINALS):
        turns.refresh()
        for record in records_of(over):
            bench.record(record)
        return True
    with round.alive(lambda: study[0].beat() if study else None), finals.alive():
        turns.know({one.config: one for one in here}.values())
        try:
            for config in portfolio:
                turns.time(config)
        except Spent:
            pass
        search(space, turns, seed=seed, study=open_study)
        if time.monotonic() > deadline or finals.take(FINALS) != "mine":
            return False
        try:
            if turns.adopt():
                finals.release(FINALS)
                return False
            records = _finalists(bench, turns)
        except BaseException:
            finals.release(FINALS)
            raise
        return finals.finish(FINALS, json.dumps([record_to_line(record) for record in records]))


def _finalists(bench: Bench, turns: Turns) -> list[Measured]:
    """Time the best few in turns, so that drift hits them all alike; their samples join those that they have."""
    timed = [record for record in turns.found.values() if record]
    best = sorted(timed, key=lambda record: (statistics.median(record.samples), record.config))[:FINALISTS]
    if all(len(record.samples) > SAMPLES for record in best):
        return []  # they were compared before, in a run whose storage is gone
    more: dict[str, list[Timed]] = {record.config: [] for record in best}
    for _ in range(ROUNDS):
        for record in best:
            if timed := turns.once_more(LaunchConfig.parse(record.config)):
                more[record.config].append(timed)
    joined = []
    for record in best:
        rounds = more[record.config]
        clocks = (*record.clocks, *(clock for one in rounds for clock in one.clocks))
        samples = (*record.samples, *(sample for one in rounds for sample in one.samples))
        joined.append(replace(record, samples=samples, clocks=clocks if len(clocks) == len(samples) else ()))
        bench.record(joined[-1])
    return joined


def candidates(
    family: Family, kept: Mapping[Point, Compilation], gpu: Gpu, size: Sizes
) -> tuple[Space, dict[Config, LaunchConfig]]:
    """The search space at one size: per variant, chunk size and solver the tiles of each stage that the cost model likes best."""
    tokens, heads = np.array([size.tokens]), np.array([size.heads])
    of_family = {point: binary for point, binary in kept.items() if point.family == family}
    cost = {point: float(estimate(point, binary, gpu, tokens, heads)[0]) for point, binary in of_family.items()}
    configs: dict[Config, LaunchConfig] = {}
    for stages in whole(family, of_family):
        likely = [sorted(points, key=lambda point: cost[point])[: TILES[family.op]] for points in stages.values()]
        for chosen in product(*likely):
            config = config_of(chosen)
            settings = (config.variant, config.chunk_size, config.solver)
            configs[(*settings, *(getattr(config, name).token for name in op_tiles(family.op)))] = config
    names = ("variant", "chunk_size", "solver", *op_tiles(family.op))
    columns = zip(*configs, strict=True) if configs else ((),) * len(names)
    parameters = {name: tuple(dict.fromkeys(column)) for name, column in zip(names, columns, strict=True)}
    return Space(parameters=parameters, feasible=tuple(configs)), configs


def find(gpu: Gpu) -> Device | None:
    """The device of this machine if it is that GPU, told by its properties and not by its name."""
    with Workers(1, device.start) as workers:
        for _, found in workers.run(device.present, [()], SECONDS):
            if isinstance(found, Device):
                same = identify(found.arch, found.sm_count, found.memory_gib)
                return found if same and same.slug == gpu.slug else None
    return None


def measure_all(
    gpu: Gpu,
    present: Device,
    ranked: Mapping[Family, Sequence[Ranked]],
    kept: Mapping[Point, Compilation],
    known: Sequence[Record],
    record: Callable[[Record], object],
    *,
    deadline: float,
    storage: Storage | None,
    step: Callable[[str], object] = lambda text: None,
) -> int:
    """Measure every family on the device `present`; the number of families and sizes that were left when time was up."""
    with bench_of(gpu, present, record, step) as bench:
        return sum(
            measure(bench, family, kept, few, deadline=deadline, known=known, storage=storage)
            for family, few in ranked.items()
        )


@contextmanager
def bench_of(
    gpu: Gpu,
    present: Device,
    record: Callable[[Record], object],
    step: Callable[[str], object] = lambda text: None,
) -> Iterator[Bench]:
    """The device `present`, in a child process that may crash or hang."""
    flush = int(2 * gpu.l2_mib * 2**20)
    with Workers(1, device.start) as workers:

        def timer(family: Family, size: Sizes, config: LaunchConfig, best: float | None) -> Timed | str:
            ((_, timed),) = workers.run(device.time_config, [(family, size, config, flush, best)], SECONDS)
            return timed

        def judge(question: Question) -> Answer:
            ((_, answer),) = workers.run(device.judge, [(question,)], SECONDS)
            return Answer(question=question, held=False, detail=answer) if isinstance(answer, str) else answer

        yield Bench(gpu=gpu, device=present, timer=timer, judge=judge, record=record, step=step)
