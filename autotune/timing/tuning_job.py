"""One family at one size of call: time the first of the model's ranking, then search, then compare the best."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from zlib import crc32

import numpy as np

from ...kernels.configs.launch_config import LaunchConfig
from ...kernels.configs.space import op_tiles, tuned_groups
from ...results.evidence.weigh import Cost, fastest
from ...results.schema.gpus import Resources
from ...results.schema.key import Key
from ...results.schema.record import Measured, Record, record_to_line
from ...specs.gpus import Gpu
from ...verify.compile.compilation import Compilation
from ..gates.interpreter import Subject, asked_of
from ..model.cost import estimate
from ..model.ranking import compiled, resources, whole
from ..search.propose import BudgetExhausted, search
from ..search.study import Config, Space, Study
from ..space.points import Family, Point, config_of
from ..storage.database import Storage
from ..storage.leases import LeaseGroup
from .device import FINALS_PROTOCOL, PROTOCOL, CallSizes, Timed
from .shared_trials import Bench, DeviceGate, SharedTrials, records_of

FINALISTS = 8
ROUNDS = 5
"""Of the finals. With these, the choice loses less than half a percent on every recording that it was tried on."""
FINALS = "finalists"
"""The one task of comparing them."""
TILES = {"chunk_fwd": 6, "chunk_train": 3}
"""Tiles per stage, chunk size that the search may choose from: the whole product must stay enumerable."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """The facts that all tuning jobs of a run share. timed: earlier records that still count, by key. refused: wrong ones.

    deadline: of time.monotonic(), after which nothing is begun. trials: configurations per family and size, at most.
    """

    bench: Bench
    storage: Storage
    survivors: Mapping[Point, Compilation]
    timed: Mapping[Key, Sequence[Measured]]
    refused: frozenset[Subject]
    deadline: float
    trials: int
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TuningJob:
    """A family at a size. Nothing but the storage is kept between visits, so that there may be hundreds.

    portfolio: configurations that are timed in any case, the safe default first. points: names the points that the search may
    choose from; once a run has compiled more, earlier decisions are open again.
    """

    plan: Plan
    family: Family
    size: CallSizes
    portfolio: Sequence[LaunchConfig]
    points: str
    verdicts: DeviceGate

    def open(self) -> None:
        """Time the portfolio."""
        group, _ = self._groups()
        with group.alive():
            self._time_portfolio(self._trials(group, {}, self.plan.trials + len(self.portfolio)))

    def decide(self) -> bool:
        """Search, and compare the finalists; whether that is done, by whomever."""
        plan, (group, finals) = self.plan, self._groups()
        if over := finals.results().get(FINALS):
            self._trials(group, {}, 0).refresh()
            for record in records_of(over):
                plan.bench.record(record)
            return True
        allowed = {config for config in self.portfolio if self._allowed(config)}
        space, configs = candidates(self.family, plan.survivors, plan.bench.gpu, self.size, self._allowed)
        limit = min(plan.trials, len(space.feasible)) + len(allowed - {*configs.values()})
        trials = self._trials(group, configs, limit)
        study: list[Study] = []

        def open_study() -> Study:
            study.append(self._study(space, group))
            return study[0]

        with group.alive(lambda: study[0].heartbeat() if study else None), finals.alive():
            self._time_portfolio(trials)
            search(space, trials.tried, seed=plan.seed, study=open_study)
            if time.monotonic() > plan.deadline or finals.acquire(FINALS) != "mine":
                return False
            try:
                if trials.reclaim_stale():
                    finals.release(FINALS)
                    return False
                records = self._finals(trials)
            except BaseException:
                finals.release(FINALS)
                raise
            return finals.complete(FINALS, json.dumps([record_to_line(record) for record in records]))

    def _groups(self) -> tuple[LeaseGroup, LeaseGroup]:
        name = self.plan.bench.group_name(self.family, self.size)
        return LeaseGroup(self.plan.storage, name), LeaseGroup(self.plan.storage, f"{name} finalists of {self.points}")

    def _trials(self, group: LeaseGroup, configs: Mapping[Config, LaunchConfig], limit: int) -> SharedTrials:
        def need(config: LaunchConfig) -> Resources | None:
            survivors = self.plan.survivors
            return resources(self.family, config, survivors) if compiled(self.family, config, survivors) else None

        return SharedTrials(
            self.plan.bench, self.family, self.size, group=group, configs=configs, need=need, verdicts=self.verdicts,
            limit=limit, deadline=self.plan.deadline,
        )  # fmt: skip

    def _time_portfolio(self, trials: SharedTrials) -> None:
        trials.seed(self._known(PROTOCOL))
        try:
            for config in filter(self._allowed, self.portfolio):
                trials.time(config)
        except BudgetExhausted:
            pass

    def _study(self, space: Space, group: LeaseGroup) -> Study:
        storage = self.plan.storage
        shared = storage.name != "memory"
        # Every worker's proposals should be its own.
        seed = (self.plan.seed + crc32(group.owner.encode()) * shared) % 2**32
        name = self.plan.bench.group_name(self.family, self.size)
        return Study(space, seed=seed, storage=storage.studies if shared else None, name=name, retry=storage.retry)

    def _finals(self, trials: SharedTrials) -> list[Record]:
        """Time the best few and the portfolio in turns, so that drift hits them all alike.

        Only these times are compared: one that was taken earlier, when the GPU was colder, says nothing against them.
        """
        before = self._known(FINALS_PROTOCOL)
        compared = {LaunchConfig.parse(record.config): record for record in before}
        timed = [
            record for record in trials.found.values() if record and self._allowed(LaunchConfig.parse(record.config))
        ]
        chosen = [LaunchConfig.parse(config) for config in finalists(timed)]
        # The portfolio, so that its loss is known everywhere.
        chosen += [config for config in self.portfolio if trials.found.get(config) and config not in chosen]
        if set(chosen) <= set(compared):
            return list(before)  # in a run whose storage is gone
        rounds: dict[LaunchConfig, list[Timed]] = {config: [] for config in dict.fromkeys([*chosen, *compared])}
        records: list[Record] = []
        for _ in range(ROUNDS):
            for config in list(rounds):
                once = trials.retime(config)
                if isinstance(once, Timed):
                    rounds[config].append(once)
                else:
                    records.append(once)
                    del rounds[config]
        for config, some in rounds.items():
            need = (trials.found.get(config) or compared[config]).resources
            records.append(trials.measured(config, some, FINALS_PROTOCOL, need))
        for record in records:
            self.plan.bench.record(record)
        return records

    def _known(self, protocol: str) -> list[Measured]:
        """The earlier measurements at this key by that protocol."""
        known = self.plan.timed.get(self.family.key(self.size.tokens, self.size.heads), ())
        return [one for one in known if one.protocol == protocol and self._allowed(LaunchConfig.parse(one.config))]

    def _allowed(self, config: LaunchConfig) -> bool:
        refused = self.plan.refused
        return not refused or not any(question.subject in refused for question in asked_of(self.family, config))


def finalists(timed: Iterable[Measured]) -> list[str]:
    """The best few. Whichever of them fail in the finals, the table's choice among all that is left is one of the others."""
    costs = {
        one.config: Cost(
            config=one.config, milliseconds=statistics.median(one.samples), resources=one.resources, record=one
        )
        for one in timed
    }
    best = []
    while costs and len(best) < FINALISTS:
        best.append(fastest(costs).config)
        del costs[best[-1]]
    return best


def candidates(
    family: Family,
    survivors: Mapping[Point, Compilation],
    gpu: Gpu,
    size: CallSizes,
    allowed: Callable[[LaunchConfig], bool] = lambda config: True,
) -> tuple[Space, dict[Config, LaunchConfig]]:
    """The search space at one size: per variant and chunk size the tiles of each stage that the cost model likes best."""
    tokens, heads = np.array([size.tokens]), np.array([size.heads])
    of_family = {point: binary for point, binary in survivors.items() if point.family == family}
    configs: dict[Config, LaunchConfig] = {}
    for group in tuned_groups(family.op):
        cost = {
            point: float(estimate(point, binary, gpu, tokens, heads, group)[0]) for point, binary in of_family.items()
        }
        # In groups there is a tile more to combine, for every size of them.
        most = TILES[family.op] // 2 if group else TILES[family.op]
        for stages in whole(family, of_family, group):
            likely = [sorted(points, key=cost.__getitem__)[:most] for points in stages.values()]
            for config in filter(allowed, (config_of(some, group) for some in product(*likely))):
                settings = (config.variant, config.chunk_size, config.group)
                configs[(*settings, *(getattr(config, name).token for name in op_tiles(family.op)))] = config
    names = ("variant", "chunk_size", "group", *op_tiles(family.op))
    columns = zip(*configs, strict=True) if configs else ((),) * len(names)
    parameters = {name: tuple(dict.fromkeys(column)) for name, column in zip(names, columns, strict=True)}
    return Space(parameters=parameters, feasible=tuple(configs)), configs
