"""The child process that measures, on a stand-in for a device: whatever becomes of it, its parent learns in one line,
and only what a device in order refuses is held against a configuration."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
import typer

from deltaproof.autotune.cli import options as commandline
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.gates.interpreter import GateAnswer, GateQuestion, asked_of
from deltaproof.autotune.timing import device, measure
from deltaproof.autotune.timing.device import SAMPLES, CallSizes, Device, NoAnswer, Timed, TimingFailure
from deltaproof.autotune.timing.shared_trials import Bench, DeviceGate
from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.results.schema.record import Gated, Record
from deltaproof.specs.gpus import gpu
from tests.helpers.synthetic import FAMILY

HANGS, DIES, FULL, HUNGRY = (LaunchConfig(chunk_size=size) for size in (16, 32, 64, 128))
FINE = LaunchConfig(chunk_size=64, solver="tf32")
ODD = LaunchConfig(chunk_size=32, solver="tf32")
"""Nobody can judge it."""
SIZE = CallSizes(tokens=33, heads=2)
DEVICE = Device(name="a stand-in", arch="sm_90", sm_count=132, memory_gib=79.1, driver="13.0")


def pretend() -> None:
    """Prepare a child whose configurations misbehave, but for one, which is a product on the CPU."""
    device.start()
    some = torch.ones(64, 64)

    def call(family, sizes: CallSizes, config: LaunchConfig) -> Callable[[], object]:
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

    def judged(question: GateQuestion) -> GateAnswer:
        if question.configs[0] == ODD:
            return GateAnswer(question=question, held=False, detail="error: nobody knows", final=False)
        device._call(FAMILY, SIZE, question.configs[0])()
        return GateAnswer(question=question, held=True, detail="made up")

    device._call, device._timed, device._end_if_poisoned = call, timed, lambda after: None
    device.alive = lambda: True
    gate.judge_on_device = judged  # pyright: ignore[reportAttributeAccessIssue]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    before, measure.SECONDS = measure.SECONDS, 6.0
    with measure.bench_of(gpu("h100"), DEVICE, lambda record: None, start=pretend) as bench:
        yield bench
    measure.SECONDS = before


@pytest.mark.parametrize(
    ("config", "outcome"),
    [(DIES, "crash: killed by SIGSEGV"), (FULL, "memory"), (HUNGRY, "crash: RuntimeError: "), (HANGS, "timeout: ")],
)
def test_what_goes_wrong_is_told_in_a_line_and_the_next_is_timed(bench: Bench, config: LaunchConfig, outcome: str):
    failure = bench.timer(FAMILY, SIZE, config, None)
    assert isinstance(failure, TimingFailure)
    assert str(failure).startswith(outcome)
    assert "\n" not in failure.detail
    found = bench.timer(FAMILY, SIZE, FINE, None)
    assert isinstance(found, Timed)
    assert min(found.samples) > 0


@pytest.mark.parametrize(("config", "outcome"), [(DIES, "crash"), (HANGS, "timeout")])
def test_a_gate_that_does_not_end_has_not_held(bench: Bench, config: LaunchConfig, outcome: str):
    answer = bench.judge(asked_of(FAMILY, config)[1])
    assert not answer.held
    assert answer.final
    assert answer.detail.partition(": ")[0] == outcome


def pretend_broken() -> None:
    """Prepare a child of a device that has gone."""
    pretend()

    def gone() -> None:
        device._end("RuntimeError: no CUDA-capable device is detected")

    device.alive = gone


@pytest.mark.parametrize(("config", "why"), [(DIES, "crash: killed by SIGSEGV"), (ODD, "error: nobody knows")])
def test_a_device_that_does_not_answer_is_held_against_no_configuration(config: LaunchConfig, why: str):
    recorded: list[Record] = []
    with (
        measure.bench_of(gpu("h100"), DEVICE, recorded.append, start=pretend_broken) as bench,
        pytest.raises(NoAnswer, match=f"no CUDA-capable device.* after {why}"),
    ):
        DeviceGate(bench, FAMILY).passed(config)
    assert not recorded


def test_a_device_that_does_not_answer_ends_a_run_with_one_line(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(typer.Exit) as ended, commandline.errors():
        raise NoAnswer("the device does not answer")
    assert ended.value.exit_code == commandline.FAILED
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_what_cannot_be_judged_is_not_timed_and_nothing_is_said_against_it(bench: Bench):
    recorded: list[Record] = []
    verdicts = DeviceGate(replace(bench, record=recorded.append), FAMILY)
    assert not verdicts.passed(ODD)
    assert not recorded
    assert not verdicts.gate(ODD)
    assert verdicts.passed(FINE)
    assert [isinstance(record, Gated) and record.held for record in recorded] == [True]


def dies() -> None:
    os.kill(os.getpid(), signal.SIGSEGV)


def raises() -> None:
    raise AssertionError("no driver\nat all")


@pytest.mark.parametrize(
    ("present", "words"), [(dies, "killed by SIGSEGV"), (raises, "AssertionError: no driver at all")]
)
def test_a_device_that_breaks_when_it_is_asked_is_told_of(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], present: Callable[[], None], words: str
):
    monkeypatch.setattr(device, "present", present)
    monkeypatch.setattr(commandline.Path, "glob", lambda *_: iter(["nvidia0"]))
    assert commandline.device_of(gpu("h100")) is None
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert words in line


def test_without_nvml_that_is_said_once(monkeypatch: pytest.MonkeyPatch):
    said: list[str] = []
    monkeypatch.setattr(measure, "find_spec", lambda name: None)
    with measure.bench_of(gpu("h100"), DEVICE, lambda record: None, warn=said.append):
        assert ["nvidia-ml-py" in line for line in said] == [True]
