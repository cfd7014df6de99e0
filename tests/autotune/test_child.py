"""The child process that measures, on a stand-in for a device: whatever becomes of it, its parent learns in one word."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest
import torch
from synthetic import FAMILY

from deltaproof.autotune import device, gate, measure
from deltaproof.autotune.device import SAMPLES, Device, Sizes, Timed
from deltaproof.autotune.gate import Question, asked_of
from deltaproof.autotune.turns import Bench
from deltaproof.kernels.config import LaunchConfig
from deltaproof.specs.gpus import gpu

HANGS, DIES, FULL, HUNGRY = (LaunchConfig(chunk_size=size) for size in (16, 32, 64, 128))
FINE = LaunchConfig(chunk_size=64, solver="tf32")
SIZE = Sizes(tokens=33, heads=2)
DEVICE = Device(name="a stand-in", arch="sm_90", sm_count=132, memory_gib=79.1, driver="13.0")


def pretend() -> None:
    """Prepare a child whose configurations misbehave, but for one, which is a product on the CPU."""
    device.start()
    some = torch.ones(64, 64)

    def call(family, sizes: Sizes, config: LaunchConfig) -> Callable[[], object]:
        def misbehave() -> None:
            if config == HANGS:
                time.sleep(600)
            if config == DIES:
                os.kill(os.getpid(), signal.SIGSEGV)
            if config == FULL:
                raise torch.OutOfMemoryError("CUDA out of memory")
            torch.empty(1 << 50, dtype=torch.int8)  # more than there is

        return (lambda: some @ some) if config == FINE else misbehave

    def timed(call: Callable[[], object], flush: int, best: float | None) -> Timed:
        samples = []
        for _ in range(SAMPLES):
            began = time.perf_counter()
            call()
            samples.append(1e3 * (time.perf_counter() - began))
        return Timed(samples=tuple(samples))

    def judged(question: Question) -> None:
        device._call(FAMILY, SIZE, question.configs[0])()

    device._call, device._timed, device._end_if_poisoned = call, timed, lambda: None
    gate.judge_on_device = judged  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    before, measure.SECONDS = measure.SECONDS, 6.0
    with measure.bench_of(gpu("h100"), DEVICE, lambda record: None, start=pretend) as bench:
        yield bench
    measure.SECONDS = before


@pytest.mark.parametrize(
    ("config", "outcome"), [(DIES, "crash"), (FULL, "memory"), (HUNGRY, "crash"), (HANGS, "timeout")]
)
def test_what_goes_wrong_is_told_in_a_word_and_the_next_is_timed(bench: Bench, config: LaunchConfig, outcome: str):
    assert bench.timer(FAMILY, SIZE, config, None) == outcome
    found = bench.timer(FAMILY, SIZE, FINE, None)
    assert isinstance(found, Timed)
    assert min(found.samples) > 0


@pytest.mark.parametrize(("config", "outcome"), [(DIES, "crash"), (HANGS, "timeout")])
def test_a_gate_that_does_not_end_has_not_held(bench: Bench, config: LaunchConfig, outcome: str):
    answer = bench.judge(asked_of(FAMILY, config)[1])
    assert not answer.held
    assert answer.detail == outcome


def test_without_nvml_that_is_said_once(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(measure, "find_spec", lambda name: None)
    with measure.bench_of(gpu("h100"), DEVICE, lambda record: None, warn=said.append):
        assert ["nvidia-ml-py" in line for line in said] == [True]
