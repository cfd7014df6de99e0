"""The measuring mode against a GPU that is made up: what is timed was gated first, and failures cost one configuration."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import groupby

import pytest

from deltaproof.autotune.compile.prune import prune
from deltaproof.autotune.gates.interpreter import GateAnswer, GateQuestion, Subject, asked_of
from deltaproof.autotune.model.ranking import rank, whole
from deltaproof.autotune.space.points import Family, Point, config_of, enumerate_points
from deltaproof.autotune.storage.database import Storage, open_storage
from deltaproof.autotune.storage.leases import LeaseGroup
from deltaproof.autotune.timing import measure, tuning_job
from deltaproof.autotune.timing.device import (
    FINALS_PROTOCOL,
    PROTOCOL,
    SAMPLES,
    CallSizes,
    Device,
    Timed,
    TimingFailure,
)
from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.evidence.derive import derive
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.key import Key
from deltaproof.results.schema.record import Gated, Measured, Record, Rejected
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Compilation
from tests.helpers.synthetic import FAMILY, compile_one

H100 = gpu("h100")
KEPT = prune({point: compile_one(point) for point in enumerate_points(FAMILY, H100.arch)[0]}, H100.arch).survivors


WRITTEN = (FAMILY, CallSizes(tokens=0, heads=0))


class Fake:
    """A GPU on which chunks of 32 are wrong, chunks of 16 crash, and the rest takes what its tiles and groups say."""

    def __init__(self) -> None:
        self.judged: set[LaunchConfig] = set()
        self.timed: list[tuple[CallSizes, LaunchConfig]] = []
        self.families: list[tuple[Family, CallSizes]] = []
        self.records: list[Record] = []
        self.hot = 1.0

    def record(self, record: Record) -> None:
        """As a ledger does."""
        if record not in self.records:
            self.records.append(record)

    def judge(self, question: GateQuestion) -> GateAnswer:
        self.judged.update(question.configs)
        return GateAnswer(question=question, held=question.configs[0].chunk_size != 32, detail="made up")

    def time(self, family, size: CallSizes, config: LaunchConfig, best: float | None):
        assert config in self.judged
        assert config.chunk_size != 32
        finals = (size, config) in self.timed
        self.timed.append((size, config))
        self.families.append((family, size))
        if config.chunk_size == 16:
            return TimingFailure(reason="crash", detail="made up")
        milliseconds = config.chunk_size / 64 + abs(math.log2(config.states.block / 64)) + 0.1 * config.scores.num_warps
        milliseconds += 0.3 * (config.group > 0) + 0.01 * config.maps.num_warps
        return Timed(samples=(milliseconds * (self.hot if finals else 1),) * SAMPLES)

    def run(
        self,
        deadline: float = math.inf,
        known: Sequence[Record] = (),
        refused: Collection[Subject] = (),
        families: Sequence[Family] = (FAMILY,),
        storage: Storage | None = None,
        most: Mapping[Point, Compilation] = KEPT,
        standing: Mapping[Key, LaunchConfig] | None = None,
        trials: int = 20,
    ) -> int:
        kept = {replace(point, family=family): binary for family in families for point, binary in most.items()}
        ranked = {family: rank(family, kept, H100) for family in families}
        return measure.measure(
            self.bench(),
            ranked,
            kept,
            deadline=deadline,
            known=known,
            refused=refused,
            standing=standing,
            storage=storage,
            trials=trials,
            after_each=self.after_each,
        )

    def bench(self) -> measure.Bench:
        device = Device(name="made up", arch="sm_90", sm_count=132, memory_gib=79.1, driver="13.0")
        return measure.Bench(gpu=H100, device=device, timer=self.time, judge=self.judge, record=self.record)

    def finals(self) -> list[str]:
        return [one.config for one in self.records if isinstance(one, Measured) and one.protocol == FINALS_PROTOCOL]

    def after_each(self) -> None:
        self.families.append(WRITTEN)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(measure, "sizes", lambda: [(2048, 16), (4096, 16)])
    monkeypatch.setattr(tuning_job, "TILES", {"chunk_fwd": 2})
    return Fake()


def test_measured_entries_are_tier_a_and_the_best_of_what_was_timed(fake: Fake):
    assert fake.run() == 0
    table = derive(fake.records, resolve("h100"), kernel_digest)
    assert {(entry.tier, entry.gate) for entry in table.entries} == {("A", "device")}
    for entry in table.entries:
        mine = [one for one in fake.records if isinstance(one, Measured) and one.key == entry.key]
        times = [sum(one.samples) / len(one.samples) for one in mine if one.protocol == FINALS_PROTOCOL]
        assert entry.milliseconds == pytest.approx(min(times), rel=0.011)


def test_what_fails_the_gate_is_never_timed_and_what_crashes_is_recorded(fake: Fake):
    fake.run()
    assert any(isinstance(record, Gated) and not record.held for record in fake.records)
    crashed = [record for record in fake.records if isinstance(record, Rejected)]
    assert crashed
    assert {(record.reason, record.detail, record.config[:3]) for record in crashed} == {("crash", "made up", "c16")}
    assert len({record.config for record in crashed}) == len(crashed), "not tried again at another size"


def test_what_could_not_be_judged_is_asked_about_again_by_the_next_run(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    storage, asked = open_storage(None), list[LaunchConfig]()

    def unsure(question: GateQuestion) -> GateAnswer:
        asked.extend(question.configs)
        final = question.configs[0] != FAMILY.default
        return GateAnswer(question=question, held=final, detail="nobody knows", final=final)

    with monkeypatch.context() as patched:
        patched.setattr(fake, "judge", unsure)
        patched.setattr(fake, "time", lambda *_: Timed(samples=(1.0,) * SAMPLES))
        assert fake.run(storage=storage) == 0
    assert asked.count(FAMILY.default) == 1
    assert not any(record.config == FAMILY.default.token for record in fake.records)
    fake.run(storage=storage)
    assert FAMILY.default in {config for _, config in fake.timed}


def test_nothing_is_timed_twice_but_the_finalists(fake: Fake):
    fake.run()
    some = [config for size, config in fake.timed if size.tokens == 2048]
    finalists = {config for config in some if some.count(config) > 1}
    assert len(finalists) <= tuning_job.FINALISTS + len(rank(FAMILY, KEPT, H100))
    assert all(some.count(config) == 1 + tuning_job.ROUNDS for config in finalists)


def test_finals_decide_however_hot_the_gpu_is_by_then(fake: Fake):
    fake.hot = 3.0
    fake.run(trials=40)
    for entry in derive(fake.records, resolve("h100"), kernel_digest).entries:
        here = [one for one in fake.records if isinstance(one, Measured) and one.key == entry.key]
        alone, finals = (
            {one.config: one.samples[0] for one in here if one.protocol == protocol}
            for protocol in (PROTOCOL, FINALS_PROTOCOL)
        )
        assert any(alone[config] < min(finals.values()) for config in set(alone) - set(finals)), "a test of something"
        assert entry.milliseconds == pytest.approx(finals[entry.config])
        assert finals[entry.config] <= min(finals.values()) * 1.01
        assert entry.default_loss is not None, "the safe default is among them"


def test_finalists_are_those_that_a_table_would_choose(fake: Fake):
    fake.run()
    one = next(one for one in fake.records if isinstance(one, Measured))
    tied = [
        replace(one, config=f"c64,states=32x4x{number}", samples=(1.0 + number / 10000,),
                resources=replace(one.resources, registers=20_000 - number)) for number in range(1, 12)
    ]  # fmt: skip
    assert tuning_job.finalists(tied) == [one.config for one in tied[:2:-1]], (
        "of those that tie, the fewest registers first"
    )


def test_what_was_compared_before_is_not_compared_again(fake: Fake):
    refused = {asked_of(FAMILY, point.config)[0].subject for point in KEPT if point.chunk_size < 64}
    fake.run(refused=refused)
    again = Fake()
    assert again.run(known=fake.records, refused=refused) == 0
    assert fake.timed
    assert not again.timed


def test_what_the_interpreter_refused_is_never_timed(fake: Fake):
    fake.run()
    arithmetic = asked_of(FAMILY, FAMILY.default)[0].subject
    one = next(config for _, config in fake.timed if asked_of(FAMILY, config)[0].subject != arithmetic)
    own = asked_of(FAMILY, one)[1].subject
    other = Fake()
    other.run(refused={arithmetic, own, ("chunk_fwd", "gdn", "fp16", 0, 0, "c128")})
    configs = {config for _, config in other.timed}
    assert configs
    assert one not in configs
    assert arithmetic not in {asked_of(FAMILY, config)[0].subject for config in configs}


def test_what_is_served_now_is_timed_too_if_it_was_compiled(fake: Fake):
    def timed() -> set[LaunchConfig]:
        return {config for size, config in fake.timed if size.tokens == 4096}

    fake.run()
    wholes = [config_of(some) for stages in whole(FAMILY, KEPT) for some in zip(*stages.values(), strict=False)]
    served = next(config for config in wholes if config.chunk_size >= 64 and config not in timed())
    strange = LaunchConfig.parse("c64,states=128x16x4")
    fake.timed.clear()
    fake.records.clear()
    fake.run(standing={FAMILY.key(4096, 16): served, FAMILY.key(2048, 16): strange})
    assert served in timed() and strange not in fake.judged
    assert served.token in fake.finals(), "so that the table may go over to these times"


def test_every_family_at_the_most_used_size_first_and_a_table_after_each(fake: Fake):
    families = [FAMILY, replace(FAMILY, rule="kda")]
    assert fake.run(families=families) == 0
    order = [what for what, _ in groupby(fake.families)]
    pairs = [(family, CallSizes(tokens=tokens, heads=16)) for tokens in (4096, 2048) for family in families]
    assert order == [what for pair in 2 * pairs for what in (pair, WRITTEN)]


def test_a_budget_that_ends_early_has_seen_every_family(fake: Fake, monkeypatch: pytest.MonkeyPatch):
    families = [FAMILY, replace(FAMILY, rule="kda")]
    monkeypatch.setattr(time, "monotonic", lambda: float(len(fake.timed)))
    left = fake.run(families=families, deadline=16.0)
    assert left == 4
    assert {family for family, size in fake.families if size.tokens == 4096} == set(families)


@pytest.mark.parametrize("when", ["alone", "finals"])
def test_what_an_interrupted_worker_was_at_is_free_at_once(fake: Fake, monkeypatch: pytest.MonkeyPatch, when: str):
    storage, names = open_storage(None), list[str]()

    class Spied(LeaseGroup):
        def __init__(self, storage, name: str) -> None:
            super().__init__(storage, name)
            names.append(name)

    def interrupted(family, size: CallSizes, config: LaunchConfig, best: float | None):
        if when == "alone" or (size, config) in fake.timed:
            raise KeyboardInterrupt
        return Fake.time(fake, family, size, config, best)

    monkeypatch.setattr(tuning_job, "LeaseGroup", Spied)
    monkeypatch.setattr(fake, "time", interrupted)
    with pytest.raises(KeyboardInterrupt):
        fake.run(storage=storage)
    assert len(names) >= 2
    for name in names:
        assert LeaseGroup(storage, name, owner="another").pending() == {}


def test_what_was_decided_is_open_again_once_more_is_compiled(fake: Fake):
    storage = open_storage(None)
    few = {point: binary for point, binary in KEPT.items() if point.chunk_size == 128 and point.tile.block == 32}
    assert fake.run(storage=storage, most=few) == 0
    first = fake.finals()
    assert fake.run(storage=storage) == 0
    assert set(first) < set(fake.finals())
    second = len(fake.timed)
    assert fake.run(storage=storage, most=few) == 0, "where less was compiled, the rest is known from others"
    assert fake.run(storage=storage) == 0
    assert len(fake.timed) == second


def test_what_a_dead_worker_left_is_dropped_where_it_was_never_compiled(fake: Fake):
    storage = open_storage(None, expiry=-1.0)
    few = {point: binary for point, binary in KEPT.items() if point.chunk_size == 128}
    for size in ((2048, 16), (4096, 16)):
        name = fake.bench().group_name(FAMILY, CallSizes(tokens=size[0], heads=size[1]))
        assert LeaseGroup(storage, name, owner="dead").acquire(FAMILY.default.token) == "mine"
    assert fake.run(storage=storage, most=few) == 0
    assert FAMILY.default not in {config for _, config in fake.timed}


def test_time_may_be_up(fake: Fake):
    assert fake.run(deadline=0.0) == 2
    assert not fake.timed


def test_the_space_at_a_size_is_small_and_feasible():
    space, configs = tuning_job.candidates(FAMILY, KEPT, H100, CallSizes(tokens=4096, heads=32))
    assert 0 < len(space.feasible) == len(configs) < 1000
    for point, config in configs.items():
        assert all(value in values for value, values in zip(point, space.parameters.values(), strict=True))
        assert (config.variant, config.chunk_size) == point[:2]
