"""The timings of one family at one size of call, by all the workers of a storage: gated first, each done once, told to all."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...kernels.configs.launch_config import LaunchConfig
from ...results.digests.kernels import kernel_digest, record_kernel
from ...results.schema.gpus import Resources
from ...results.schema.record import Gated, Measured, Record, Rejected, record_to_line
from ...results.schema.strict import TableError, parse
from ...specs.gpus import Gpu
from ...verify.compile.programs import triton_version
from ..gates.interpreter import GateAnswer, GateQuestion, asked_of
from ..search.propose import BudgetExhausted, Trials
from ..search.study import Config, Timing
from ..space.points import Family
from ..space.validate import read_record
from ..storage.leases import LeaseGroup
from .device import FINALS_PROTOCOL, PROTOCOL, SAMPLES, CallSizes, Device, Timed, TimingFailure

GOOD_FOR_NO_SIZE = ("timeout", "crash", "compile", "resources")
"""Failures that take a configuration out at every size of call."""

Timer = Callable[[Family, CallSizes, LaunchConfig, float | None], Timed | TimingFailure]
"""Samples and clocks, or why there are none.

The last argument is the milliseconds of the best so far, None where nothing is to be stopped early."""
Judge = Callable[[GateQuestion], GateAnswer]


@dataclass(slots=True, kw_only=True)
class Bench:
    """The GPU as the search sees it. timer, judge: run one configuration in a child. record: told of everything found out.

    step: told, in a few words, whenever something was timed.
    """

    gpu: Gpu
    device: Device
    timer: Timer
    judge: Judge
    record: Callable[[Record], object]
    step: Callable[[str], object] = field(default=lambda text: None)

    def about(self, family: Family, config: LaunchConfig) -> dict[str, Any]:
        return {
            "config": config.token,
            "kernel": kernel_digest(family.key(), config.token),
            "triton": triton_version(),
            "driver": self.device.driver,
        }

    def current(self, record: Record) -> bool:
        """Whether a record was made on this kind of device with these kernels and this toolchain, and so still counts.

        A time is of one of our two protocols besides: taken alone, or in turns with the other finalists.
        """
        same = (record.kernel, record.triton, record.driver)
        if same != (record_kernel(record), triton_version(), self.device.driver):
            return False
        if not isinstance(record, Measured):
            return True
        return record.device == self.device.name and record.protocol in (PROTOCOL, FINALS_PROTOCOL)

    def group_name(self, family: Family, size: CallSizes) -> str:
        """Equal for workers whose timings compare: anything else is another group, and another study."""
        words = (self.gpu.slug, family.key(size.tokens, size.heads), kernel_digest(family.key(), "-"), triton_version())
        return " ".join(map(str, (*words, self.device.driver, self.device.name, PROTOCOL)))


class DeviceGate:
    """The gate before timing: a configuration is judged once per family, and never again once it hung or crashed."""

    def __init__(self, bench: Bench, family: Family, known: Iterable[Record] = ()) -> None:
        self._bench, self._family = bench, family
        self._passed: dict[LaunchConfig, bool] = {}
        self._gates: dict[LaunchConfig, Gated] = {}
        self.unjudged: set[LaunchConfig] = set()
        """Configurations that could not be judged on a device in order: not timed in this run, and nothing is said against
        them."""
        for record in known:
            self.note(record)

    def note(self, record: Record) -> None:
        """Take note of a record made before, or elsewhere."""
        if record.key.op != self._family.op or (record.key.rule, record.key.dtype) != (
            self._family.rule,
            self._family.dtype,
        ):
            return
        if (record.key.K, record.key.V) != (self._family.K, self._family.V) or not self._bench.current(record):
            return
        if isinstance(record, Gated) and record.where == "device":
            config = LaunchConfig.parse(record.config)
            self._passed[config] = self._passed.get(config, True) and record.held
            self._gates[config] = record
        elif isinstance(record, Rejected) and record.reason in GOOD_FOR_NO_SIZE:
            self._passed[LaunchConfig.parse(record.config)] = False

    def passed(self, config: LaunchConfig) -> bool:
        """The gate on the device, before anything is timed."""
        if config not in self._passed and config not in self.unjudged:
            family, bench = self._family, self._bench
            _, question = asked_of(family, config)
            answer = bench.judge(question)
            if not answer.held and not answer.final:
                self.unjudged.add(config)
                return False
            about = bench.about(family, config)
            gate = Gated(key=family.key(), **about, where="device", held=answer.held, detail=answer.detail)
            bench.record(gate)
            self.note(gate)
        return self._passed.get(config, False)

    def gate(self, config: LaunchConfig) -> list[Record]:
        """The gate record of a configuration, without which nobody else may use its times."""
        return [self._gates[config]] if config in self._gates else []


class SharedTrials:
    """Trials that workers share. `configs` says which launch configuration a point of the space is.

    tried: those of the space, for a search, which may try more.
    need: resources of a configuration, None for one whose stages were not compiled here. found: the measurement of every
    configuration, of the space or not, by any worker; None for one that cannot be timed.
    """

    def __init__(
        self,
        bench: Bench,
        family: Family,
        size: CallSizes,
        *,
        group: LeaseGroup,
        configs: Mapping[Config, LaunchConfig],
        need: Callable[[LaunchConfig], Resources | None],
        verdicts: DeviceGate,
        limit: int,
        deadline: float,
    ) -> None:
        self.tried = Trials(measure=self._measure, budget=limit)
        self._bench, self._family, self._size, self._group = bench, family, size, group
        self._configs, self._points = configs, {config: point for point, config in configs.items()}
        self._need, self._verdicts, self._deadline = need, verdicts, deadline
        self._read: set[str] = set()
        self.found: dict[LaunchConfig, Measured | None] = {}

    def time(self, config: LaunchConfig) -> Timing | None:
        """The timing of a configuration, of the space or not; None if another worker is at it."""
        if config in self.found:
            return self._timing(config)
        if time.monotonic() > self._deadline:
            raise BudgetExhausted
        lease = self._group.acquire(config.token, self.tried.budget)
        if lease == "mine":
            return self._do(config)
        self.refresh()
        if lease == "exhausted":
            self.reclaim_stale()
            raise BudgetExhausted
        return self._timing(config) if config in self.found else None

    def retime(self, config: LaunchConfig) -> Timed | Rejected:
        """Time a configuration again; if it fails now, the reason why it is out."""
        timed = self._bench.timer(self._family, self._size, config, None)
        self._bench.step(f"{self._family} {config.token}, once more")
        return self._rejected(config, timed) if isinstance(timed, TimingFailure) else timed

    def measured(self, config: LaunchConfig, times: Sequence[Timed], protocol: str, resources: Resources) -> Measured:
        """The record of a configuration that was timed so often, in that way."""
        samples = tuple(sample for one in times for sample in one.samples)
        clocks = tuple(clock for one in times for clock in one.clocks)
        return Measured(
            key=self._family.key(self._size.tokens, self._size.heads), **self._bench.about(self._family, config),
            samples=samples, clocks=clocks if len(clocks) == len(samples) else (), device=self._bench.device.name,
            protocol=protocol, resources=resources,
        )  # fmt: skip

    def seed(self, records: Iterable[Measured]) -> None:
        """Share earlier timings, so that nobody repeats them."""
        self.refresh()
        for record in records:
            config = LaunchConfig.parse(record.config)
            if config not in self.found and self._group.acquire(config.token) == "mine":
                self._end(config, [record, *self._verdicts.gate(config)])

    def refresh(self) -> None:
        """Take over the results of other workers."""
        for task, result in self._group.results().items():
            if task not in self._read:
                self._read.add(task)
                records = records_of(result)
                for record in records:
                    self._bench.record(record)
                self._note(config_of_task(task), records)
        pending = {config_of_task(task) for task in self._group.pending()}
        self.tried.running = {self._points[config] for config in pending if config in self._points}

    def reclaim_stale(self) -> bool:
        """Finish the tasks that dead workers left; returns whether others are still at work."""
        waiting = False
        for task, free in self._group.pending().items():
            config = config_of_task(task)
            if free and self._group.acquire(task) == "mine":
                if self._need(config) is None:
                    self._group.release(task)  # whoever compiles it may try it again
                else:
                    self._do(config)
            else:
                waiting = True
        self.refresh()
        return waiting

    def _measure(self, point: Config) -> Timing | None:
        return self.time(self._configs[point])

    def _do(self, config: LaunchConfig) -> Timing:
        try:
            records = self._outcome(config)
        except BaseException:
            self._group.release(config.token)
            raise
        if records or config not in self._verdicts.unjudged:
            self._end(config, records)
        else:
            # Another run may be able to judge it.
            self._group.release(config.token)
            self._note(config, [])
        self._bench.step(f"{self._family} {config.token}")
        return self._timing(config)

    def _end(self, config: LaunchConfig, some: list[Record]) -> None:
        # On our own disk first: even if the database is lost, no measurement is.
        for record in some:
            self._bench.record(record)
        if self._group.complete(config.token, json.dumps([record_to_line(record) for record in some])):
            self._read.add(config.token)
            self._note(config, some)
        else:
            self.refresh()

    def _outcome(self, config: LaunchConfig) -> list[Record]:
        """The gate's record, and a measurement or a rejection of a configuration that passed it."""
        if not self._verdicts.passed(config):
            return self._verdicts.gate(config)
        gate = self._verdicts.gate(config)
        best = min((statistics.median(record.samples) for record in self.found.values() if record), default=None)
        timed = self._bench.timer(self._family, self._size, config, best)
        if isinstance(timed, TimingFailure):
            return [*gate, self._rejected(config, timed)]
        need = self._need(config)
        assert need is not None
        return [*gate, self.measured(config, [timed], PROTOCOL, need)]

    def _rejected(self, config: LaunchConfig, failure: TimingFailure) -> Rejected:
        key = self._family.key(self._size.tokens, self._size.heads)
        about = self._bench.about(self._family, config)
        return Rejected(key=key, **about, reason=failure.reason, detail=failure.detail)

    def _note(self, config: LaunchConfig, records: list[Record]) -> None:
        measured = None
        for record in records:
            self._verdicts.note(record)
            if isinstance(record, Measured):
                measured = record
        point, known = self._points.get(config), config in self.found
        self.found[config] = measured
        if point is not None:
            self.tried.timings[point] = self._timing(config)
            self.tried.running.discard(point)
        elif not known:
            self.tried.elsewhere += 1

    def _timing(self, config: LaunchConfig) -> Timing:
        record = self.found[config]
        return Timing(samples=record.samples, pruned=len(record.samples) < SAMPLES) if record else Timing()


def config_of_task(task: str) -> LaunchConfig:
    """The configuration that a task is to time. Raises TableError for one that no worker named."""
    try:
        return LaunchConfig.parse(task)
    except ValueError as error:
        raise TableError(f"a task in the storage is {error}") from None


def records_of(result: str) -> list[Record]:
    """The records that another worker found. Raises TableError for a result that no worker wrote."""
    lines = parse(result, "a result in the storage")
    if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
        raise TableError("a result in the storage is no list of records")
    return [read_record(line, "a record in the storage") for line in lines]
