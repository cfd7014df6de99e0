"""`autotune --mode measure`: gate, time and search on the GPU that is here. Written to the design; it has not met a GPU yet.

Per family and size of call: what the cost model ranks first is timed outside the search; then the search runs over the
likeliest tiles of every stage, judged by the time of the whole op; then the finalists are timed in turns, so that drift hits
them all alike.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from typing import Any

import numpy as np

from ..kernels.config import LaunchConfig
from ..kernels.space import OP_STAGES
from ..results.gpus import identify
from ..results.kernel_digest import kernel_digests
from ..results.record import Gated, Measured, Record, Rejected
from ..specs.gpus import Gpu
from . import device
from .binary import Compilation
from .cost import estimate
from .device import PROTOCOL, Device, Sizes
from .gate import Answer, Question
from .points import Family, Point
from .pool import Workers
from .ranking import Ranked, resources, sizes, whole
from .search import Config, Space, search

SECONDS = 600.0
"""After which a gate or a timing counts as hanging; compiling is part of both."""
TRIALS = 100
"""Configurations timed per family and size of call."""
FINALISTS = 8
ROUNDS = 3
TILES = {"chunk_fwd": 6, "chunk_train": 3}
"""Tiles per stage, chunk size and solver that the search may choose from: the whole product must stay enumerable."""

Timer = Callable[[Family, Sizes, LaunchConfig, float | None], tuple[float, ...] | str]
"""Milliseconds, or a word of `results.record.Reason`: memory, timeout or crash."""
Judge = Callable[[Question], Answer]


@dataclass(slots=True, kw_only=True)
class Bench:
    """The GPU as the search sees it. timer, judge: run one configuration in a child. record: told of everything found out."""

    gpu: Gpu
    device: Device
    timer: Timer
    judge: Judge
    record: Callable[[Record], object]

    def about(self, family: Family, config: LaunchConfig) -> dict[str, Any]:
        return {
            "config": config.token,
            "kernel": kernel_digests()[family.op],
            "triton": version("triton"),
            "driver": self.device.driver,
        }


def measure(
    bench: Bench,
    family: Family,
    kept: Mapping[Point, Compilation],
    ranked: Sequence[Ranked],
    *,
    deadline: float,
    known: Sequence[Measured] = (),
    storage: str | None = None,
    seed: int = 0,
) -> int:
    """Time a family at every size of call; the number of sizes that were left when time was up (of time.monotonic()).

    known: earlier measurements on this device with this toolchain: their configurations are not timed again.
    """
    passed: dict[LaunchConfig, bool] = {}
    grid = sizes()
    for done, (tokens, heads) in enumerate(grid):
        if time.monotonic() > deadline:
            return len(grid) - done
        size = Sizes(tokens=tokens, heads=heads)
        times = {
            LaunchConfig.parse(one.config): list(one.samples) for one in known if one.key == family.key(tokens, heads)
        }
        if len(times) >= TRIALS:
            continue

        def run(config: LaunchConfig, times: dict = times, size: Sizes = size) -> float:
            if config not in times and _passes(bench, family, config, passed):
                best = min(map(statistics.median, times.values()), default=None)
                samples = _timed(bench, family, size, config, best, passed)
                if samples:
                    times[config] = list(samples)
            return statistics.median(times[config]) if config in times else math.inf

        portfolio = [one.config for one in ranked]
        for config in portfolio:
            run(config)
        space, configs = candidates(family, kept, bench.gpu, size)
        search(
            space,
            lambda point, configs=configs: run(configs[point]),
            budget=min(TRIALS, len(space.feasible)),
            seed=seed,
            storage=storage,
            name=f"{bench.gpu.slug} {family.key(tokens, heads)}",
        )
        finalists = sorted(times, key=lambda config: statistics.median(times[config]))[:FINALISTS]
        for _ in range(ROUNDS):
            for config in finalists:
                times[config] += _timed(bench, family, size, config, None, passed)
        for config, samples in times.items():
            bench.record(
                Measured(
                    key=family.key(tokens, heads),
                    **bench.about(family, config),
                    samples=tuple(samples),
                    device=bench.device.name,
                    protocol=PROTOCOL,
                    resources=resources(family, config, kept),
                )
            )
    return 0


def candidates(
    family: Family, kept: Mapping[Point, Compilation], gpu: Gpu, size: Sizes
) -> tuple[Space, dict[Config, LaunchConfig]]:
    """The search space at one size: for every chunk size and solver, the tiles of each stage that the cost model likes best."""
    tokens, heads = np.array([size.tokens]), np.array([size.heads])
    of_family = {point: binary for point, binary in kept.items() if point.family == family}
    cost = {point: float(estimate(point, binary, gpu, tokens, heads)[0]) for point, binary in of_family.items()}
    configs: dict[Config, LaunchConfig] = {}
    for stages in whole(family, of_family):
        likely = [sorted(points, key=lambda point: cost[point])[: TILES[family.op]] for points in stages.values()]
        for chosen in product(*likely):
            tiles = {point.stage: point.tile for point in chosen}
            scores = chosen[0]
            config = LaunchConfig(chunk_size=scores.chunk_size, solver=scores.solver, **tiles)
            configs[(config.chunk_size, config.solver, *(tile.token for tile in tiles.values()))] = config
    names = ("chunk_size", "solver", *OP_STAGES[family.op])
    columns = zip(*configs, strict=True) if configs else ((),) * len(names)
    parameters = {name: tuple(dict.fromkeys(column)) for name, column in zip(names, columns, strict=True)}
    return Space(parameters=parameters, feasible=tuple(configs)), configs


def _passes(bench: Bench, family: Family, config: LaunchConfig, passed: dict[LaunchConfig, bool]) -> bool:
    """The gate on the device, once per configuration and family, before anything is timed."""
    if config not in passed:
        question = Question(op=family.op, rule=family.rule, dtype=family.dtype, configs=(config,))
        answer = bench.judge(question)
        passed[config] = answer.held
        bench.record(
            Gated(
                key=family.key(), **bench.about(family, config), where="device", held=answer.held, detail=answer.detail
            )
        )
    return passed[config]


def _timed(
    bench: Bench,
    family: Family,
    size: Sizes,
    config: LaunchConfig,
    best: float | None,
    passed: dict[LaunchConfig, bool],
) -> tuple[float, ...]:
    """Samples; none, and a record of why, if the configuration failed. One that hung or crashed is not tried at other sizes."""
    samples = bench.timer(family, size, config, best)
    if isinstance(samples, str):
        passed[config] = samples == "memory"
        about = bench.about(family, config)
        bench.record(Rejected(key=family.key(size.tokens, size.heads), **about, reason=samples))  # pyright: ignore[reportArgumentType]
        return ()
    return samples


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
    storage: str | None,
) -> int:
    """Measure every family on the device `present`; the number of families and sizes that were left when time was up."""
    flush = int(2 * gpu.l2_mib * 2**20)
    with Workers(1, device.start) as workers:

        def timer(family: Family, size: Sizes, config: LaunchConfig, best: float | None) -> tuple[float, ...] | str:
            ((_, samples),) = workers.run(device.time_config, [(family, size, config, flush, best)], SECONDS)
            return samples

        def judge(question: Question) -> Answer:
            ((_, answer),) = workers.run(device.judge, [(question,)], SECONDS)
            return Answer(question=question, held=False, detail=answer) if isinstance(answer, str) else answer

        bench = Bench(gpu=gpu, device=present, timer=timer, judge=judge, record=record)
        left = 0
        for family, few in ranked.items():
            before = [
                one
                for one in known
                if isinstance(one, Measured)
                and (one.kernel, one.device) == (kernel_digests()[family.op], present.name)
                and (one.triton, one.driver, one.protocol) == (version("triton"), present.driver, PROTOCOL)
            ]
            left += measure(bench, family, kept, few, deadline=deadline, known=before, storage=storage)
    return left
