"""What will run on a GPU, as far as that shows without one: the calls it makes, when it gives up, how it ends."""

from __future__ import annotations

import itertools
import os
import sys
from collections import deque
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from deltaproof.autotune.space.points import Family
from deltaproof.autotune.timing import device, stopwatch
from deltaproof.autotune.timing.device import HOPELESS, SAMPLES, CallSizes, hopeless
from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.specs.gpus import gpu


@pytest.mark.parametrize("op", ["chunk_fwd", "chunk_train"])
@pytest.mark.parametrize("rule", ["gdn2", "kda", "gdn"])
def test_the_call_that_is_timed_is_one_that_runs(op: str, rule: str):
    family = Family(op=op, rule=rule, dtype="fp32", K=32, V=32)
    device._call(family, CallSizes(tokens=33, heads=2), LaunchConfig(chunk_size=32), "cpu")()


@pytest.mark.parametrize(
    ("samples", "best", "stop"),
    [([9.0], 1.0, False), ([9.0, 9.0], None, False), ([9.0, 1.0], 1.0, False), ([9.0, 9.0], 1.0, True),
     ([HOPELESS, HOPELESS], 1.0, False), ([9.0, 9.0, 9.0], 1.0, False)],
)  # fmt: skip
def test_only_what_two_samples_agree_on_is_hopeless(samples: list[float], best: float | None, stop: bool):
    assert hopeless(samples, best) == stop


def test_sizes_become_sequences_and_heads():
    assert CallSizes(tokens=1, heads=16).split == (1, 16)
    assert CallSizes(tokens=1, heads=128).split == (8, 16)
    assert CallSizes(tokens=1, heads=4).split == (1, 4)


class Cuda:
    """As much of torch.cuda as the protocol uses; `order` is what was queued, and the clock goes on with every call.

    times: milliseconds of samples. dry: how often the device gets to the beginning before all is queued.
    """

    def __init__(self, times: Iterable[float] = (), dry: int = 0, clocks: Iterable[float] = ()) -> None:
        self.order: list[str] = []
        self.held: list[int] = []
        self.seconds = 0.0
        self._times, self._dry, self._clocks = iter(times), dry, iter(clocks)

    def call(self) -> None:
        self.order.append("call")
        self.seconds += 0.003

    def synchronize(self) -> None:
        self.order.append("wait")

    def _sleep(self, cycles: int) -> None:
        self.held.append(cycles)
        self.order.append("sleep")

    def get_device_properties(self, index: int):
        return SimpleNamespace(L2_cache_size=1000, uuid="1234")

    def Event(self, enable_timing: bool):
        assert enable_timing
        return SimpleNamespace(
            record=lambda: self.order.append("event"), elapsed_time=lambda other: next(self._times), query=self.passed
        )  # fmt: skip

    def passed(self) -> bool:
        self.order.append("ask")
        self._dry -= 1
        return self._dry >= 0

    def megahertz(self, handle: str, kind: int) -> float:
        assert handle == "GPU-1234"
        return next(self._clocks)


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch):
    """Times a call on a made-up device: (what was found, sizes of what was allocated)."""

    def timed(cuda: Cuda, best: float | None = None) -> tuple[device.Timed, list[int]]:
        import torch

        sizes: list[int] = []

        def empty(size: int, **_: object):
            sizes.append(size)
            return SimpleNamespace(zero_=lambda: cuda.order.append("flush"))

        monkeypatch.setattr(torch, "cuda", cuda)
        monkeypatch.setattr(torch, "empty", empty)
        monkeypatch.setattr(stopwatch.time, "perf_counter", lambda: cuda.seconds)
        return device._timed(cuda.call, 500, best), sizes

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(device, "_clocks", deque())
    return timed


SAMPLE = ["call", "wait", "flush", "sleep", "event", "call", "event", "ask", "wait"]


def test_the_protocol(timed):
    """Compile, warm up; then queue once, flush, hold the device until all is queued, and time."""
    cuda = Cuda([float(i) for i in range(SAMPLES)])
    found, sizes = timed(cuda)
    assert found.samples == tuple(float(i) for i in range(SAMPLES))
    assert found.queued
    assert not found.clocks
    assert sizes == [2000], "twice the device's own cache, where that is more"
    assert cuda.order[-len(SAMPLE) * SAMPLES :] == SAMPLE * SAMPLES
    warm = cuda.order[: -len(SAMPLE) * SAMPLES]
    assert warm[:3] == ["call", "wait", "wait"]
    assert 0.003 * warm.count("call") >= 0.1
    assert cuda.held == pytest.approx([stopwatch.CYCLES_PER_SECOND * 0.006] * SAMPLES), (
        "twice as long as queueing takes"
    )


def test_a_sample_that_waited_for_its_launches_is_taken_again(timed):
    cuda = Cuda(itertools.count(), dry=3)
    found, _ = timed(cuda)
    assert found.samples == tuple(range(3, 3 + SAMPLES))
    assert found.queued
    assert cuda.held[:4] == pytest.approx([cuda.held[0] * 2**i for i in range(4)]), "held for longer each time"


def test_a_call_that_waits_for_the_device_itself_says_so(timed):
    found, _ = timed(Cuda(itertools.count(), dry=10**6))
    assert len(found.samples) == SAMPLES
    assert not found.queued


def test_the_hopeless_are_stopped_after_two_samples(timed):
    found, _ = timed(Cuda([5.0] * SAMPLES), 1.0)
    assert found.samples == (5.0, 5.0)
    assert found.pruned


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch):
    def nvml(cuda: Cuda) -> Cuda:
        fake = SimpleNamespace(
            NVML_CLOCK_SM=1, NVMLError=KeyError, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=lambda name: name,
            nvmlDeviceGetClockInfo=cuda.megahertz, nvmlSystemGetDriverVersion=lambda: "570.86.10",
        )  # fmt: skip
        monkeypatch.setitem(sys.modules, "pynvml", fake)
        return cuda

    return nvml


def test_samples_of_a_device_that_throttles_are_taken_again_a_few_times(timed, nvml):
    device._clocks.extend([1980.0] * 20)
    # Asked once whether there are clocks, then before and after each sample.
    found, _ = timed(nvml(Cuda(map(float, itertools.count()), clocks=[1980, *[1980, 1500] * 2, *[1980] * 100])), 0.1)
    assert found.samples == (2.0, 3.0), "hopeless, and both at full speed"
    assert found.clocks == (1980.0, 1980.0)
    found, _ = timed(nvml(Cuda([1.0] * 99, clocks=itertools.repeat(1500.0))), 0.1)
    assert found.clocks == (1500.0,) * SAMPLES, "kept in the end, with its clocks, and not judged by them"
    assert not found.pruned


def test_the_first_samples_of_a_process_have_nothing_to_be_compared_with(timed, nvml):
    found, _ = timed(nvml(Cuda([1.0] * SAMPLES, clocks=itertools.repeat(1500.0))))
    assert found.clocks == (1500.0,) * SAMPLES


def test_an_error_of_the_device_ends_the_process_and_others_do_not(monkeypatch: pytest.MonkeyPatch):
    import torch
    from triton.runtime.errors import OutOfResources

    class Ended(BaseException):
        pass

    def exit(code: int) -> None:
        raise Ended

    def fails(error: BaseException):
        def call(*_: object) -> None:
            raise error

        monkeypatch.setattr(device, "_call", lambda *_: None)
        monkeypatch.setattr(device, "_timed", call)
        failure = device.time_config(None, None, None, 0, None)  # pyright: ignore[reportArgumentType]
        assert isinstance(failure, device.TimingFailure)
        return failure.reason

    monkeypatch.setattr(os, "_exit", exit)
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(empty_cache=lambda: None))
    poisoned: list[bool] = []
    monkeypatch.setattr(device, "_end_if_poisoned", lambda after: os._exit(1) if poisoned else None)
    assert fails(torch.OutOfMemoryError("too much")) == "memory"
    assert fails(OutOfResources(300_000, 232_448, "shared memory")) == "resources"
    assert fails(TypeError("what a compiler says")) == "compile"
    assert fails(RuntimeError("Triton Error [CUDA]: out of memory")) == "memory"
    assert fails(RuntimeError("Triton Error [CUDA]: too many resources requested for launch")) == "resources"
    assert fails(RuntimeError("PassManager::run failed")) == "compile"
    poisoned.append(True)
    with pytest.raises(Ended):
        fails(RuntimeError("Triton Error [CUDA]: out of memory"))
    poisoned.clear()
    with pytest.raises(Ended):
        fails(RuntimeError("CUDA error: an illegal memory access was encountered"))


def end_of(monkeypatch: pytest.MonkeyPatch, path: Path, do: Callable[[], object]) -> str:
    """The words that a child leaves when it ends itself."""

    class Ended(BaseException):
        pass

    def exit(code: int) -> None:
        raise Ended

    monkeypatch.setattr(os, "_exit", exit)
    monkeypatch.setattr(device, "_last_words", None)
    device.begin(lambda: None, path)
    with pytest.raises(Ended):
        do()
    return path.read_text()


def test_a_torch_without_cuda_ends_the_child_and_not_the_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import torch

    def synchronize() -> None:
        raise AssertionError("Torch not compiled with CUDA enabled")

    monkeypatch.setattr(torch, "cuda", SimpleNamespace(synchronize=synchronize))
    words = end_of(monkeypatch, tmp_path / "words", lambda: device._end_if_poisoned("what was judged"))
    assert words == "what was judged"


def test_a_device_is_alive_if_its_product_is_right(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    import torch

    full = torch.full
    monkeypatch.setattr(torch, "full", lambda size, value, device: full(size, value))
    assert device.alive()
    monkeypatch.setattr(torch, "full", lambda size, value, device: full(size, value + 1))
    assert "if it is right" in end_of(monkeypatch, tmp_path / "wrong", device.alive)
    monkeypatch.setattr(torch, "full", lambda size, value, device: 1 / 0)
    assert "ZeroDivisionError" in end_of(monkeypatch, tmp_path / "raises", device.alive)


def test_clocks_are_not_read_where_nvml_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert stopwatch.clock()() is None


def test_what_a_device_says_of_itself_wins(monkeypatch: pytest.MonkeyPatch, nvml):
    import torch

    facts = SimpleNamespace(
        name="NVIDIA H100", gcnArchName="", major=9, minor=0, multi_processor_count=114, total_memory=80 << 30,
        shared_memory_per_block_optin=200_000, regs_per_multiprocessor=32768, L2_cache_size=30 << 20, clock_rate=1_500_000,
    )  # fmt: skip
    fake = SimpleNamespace(is_available=lambda: True, get_device_properties=lambda index: facts)
    monkeypatch.setattr(torch, "cuda", fake)
    nvml(Cuda())
    found = device.present()
    assert found
    assert found.driver == "570.86.10"
    h100 = gpu("h100")
    here = device.as_it_is(h100, found)
    assert (here.sm_count, here.l2_mib, here.clock_mhz) == (114, 30, 1500)
    assert (here.arch.shared_per_block, here.arch.registers_per_sm) == (200_000, 32768)
    assert here.arch.shared_per_sm == h100.arch.shared_per_sm, "what it does not say is as was known"


def test_without_nvml_the_driver_is_that_of_its_interface(monkeypatch: pytest.MonkeyPatch):
    import torch

    monkeypatch.setitem(sys.modules, "pynvml", None)
    monkeypatch.setattr(torch._C, "_cuda_getDriverVersion", lambda: 13000, raising=False)
    assert device._driver() == "api-13000"
