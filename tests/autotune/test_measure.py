"""The measuring mode against a GPU that is made up: what is timed was gated first, and failures cost one configuration."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
from synthetic import FAMILY, compile_one

from deltaproof.autotune import measure
from deltaproof.autotune.device import SAMPLES, Device, Sizes, Timed
from deltaproof.autotune.gate import Answer, Question
from deltaproof.autotune.points import enumerate_points
from deltaproof.autotune.ranking import rank
from deltaproof.autotune.rejection import sift
from deltaproof.kernels.config import LaunchConfig
from deltaproof.results.derive import derive
from deltaproof.results.gpus import resolve
from deltaproof.results.kernel_digest import kernel_digests
from deltaproof.results.record import Gated, Measured, Record, Rejected
from deltaproof.specs.gpus import gpu

H100 = gpu("h100")
KEPT = sift({point: compile_one(point) for point in enumerate_points(FAMILY, H100.arch)[0]}, H100.arch).kept


class Fake:
    """A GPU on which chunks of 32 are wrong, chunks of 16 crash, and the rest takes what its states' tile says."""

    def __init__(self) -> None:
        self.judged: set[LaunchConfig] = set()
        self.timed: list[tuple[Sizes, LaunchConfig]] = []
        self.records: list[Record] = []

    def judge(self, question: Question) -> Answer:
        self.judged.update(question.configs)
        return Answer(question=question, held=question.configs[0].chunk_size != 32, detail="made up")

    def time(self, family, size: Sizes, config: LaunchConfig, best: float | None):
        assert config in self.judged
        assert config.chunk_size != 32
        self.timed.append((size, config))
        if config.chunk_size == 16:
            return "crash"
        milliseconds = config.chunk_size / 64 + abs(math.log2(config.states.block / 64)) + 0.1 * config.scores.num_warps
        return Timed(samples=(milliseconds,) * SAMPLES)

    def run(self, deadline: float = math.inf, known: Sequence[Measured] = ()) -> int:
        device = Device(name="made up", arch="sm_90", sm_count=132, memory_gib=79.1, driver="13.0")
        bench = measure.Bench(gpu=H100, device=device, timer=self.time, judge=self.judge, record=self.records.append)
        return measure.measure(bench, FAMILY, KEPT, rank(FAMILY, KEPT, H100), deadline=deadline, known=known)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    monkeypatch.setattr(measure, "sizes", lambda: [(2048, 16), (4096, 16)])
    monkeypatch.setattr(measure, "TRIALS", 20)
    monkeypatch.setattr(measure, "TILES", {"chunk_fwd": 2})
    return Fake()


def test_measured_entries_are_tier_a_and_the_best_of_what_was_timed(fake: Fake):
    assert fake.run() == 0
    table = derive(fake.records, resolve("h100"), kernel_digests())
    assert {(entry.tier, entry.gate) for entry in table.entries} == {("A", "device")}
    for entry in table.entries:
        mine = [one for one in fake.records if isinstance(one, Measured) and one.key == entry.key]
        times = [sum(one.samples) / len(one.samples) for one in mine]
        assert entry.milliseconds == pytest.approx(min(times), rel=0.011)


def test_what_fails_the_gate_is_never_timed_and_what_crashes_is_recorded(fake: Fake):
    fake.run()
    assert any(isinstance(record, Gated) and not record.held for record in fake.records)
    crashed = [record for record in fake.records if isinstance(record, Rejected)]
    assert crashed
    assert all(record.reason == "crash" and record.config.startswith("c16") for record in crashed)
    assert len({record.config for record in crashed}) == len(crashed), "not tried again at another size"


def test_nothing_is_timed_twice_but_the_finalists(fake: Fake):
    fake.run()
    some = [config for size, config in fake.timed if size.tokens == 2048]
    finalists = {config for config in some if some.count(config) > 1}
    assert len(finalists) <= measure.FINALISTS
    assert all(some.count(config) == 1 + measure.ROUNDS for config in finalists)


def test_time_may_be_up(fake: Fake):
    assert fake.run(deadline=0.0) == 2
    assert not fake.timed


def test_the_space_at_a_size_is_small_and_feasible():
    space, configs = measure.candidates(FAMILY, KEPT, H100, Sizes(tokens=4096, heads=32))
    assert 0 < len(space.feasible) == len(configs) < 1000
    for point, config in configs.items():
        assert all(value in values for value, values in zip(point, space.parameters.values(), strict=True))
        assert (config.variant, config.chunk_size) == point[:2]
