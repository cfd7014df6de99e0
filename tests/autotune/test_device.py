"""What will run on a GPU, as far as that shows without one: the calls it makes, when it gives up, how it ends."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from deltaproof.autotune import device
from deltaproof.autotune.device import HOPELESS, SAMPLES, Sizes, hopeless
from deltaproof.autotune.points import Family
from deltaproof.kernels.config import LaunchConfig


@pytest.mark.parametrize("op", ["chunk_fwd", "chunk_train"])
@pytest.mark.parametrize("rule", ["gdn2", "kda", "gdn"])
def test_the_call_that_is_timed_is_one_that_runs(op: str, rule: str):
    family = Family(op=op, rule=rule, dtype="fp32", K=32, V=32)
    device._call(family, Sizes(tokens=33, heads=2), LaunchConfig(chunk_size=32), "cpu")()


@pytest.mark.parametrize(
    ("samples", "best", "stop"),
    [([9.0], 1.0, False), ([9.0, 9.0], None, False), ([9.0, 1.0], 1.0, False), ([9.0, 9.0], 1.0, True),
     ([HOPELESS, HOPELESS], 1.0, False), ([9.0, 9.0, 9.0], 1.0, False)],
)  # fmt: skip
def test_only_what_two_samples_agree_on_is_hopeless(samples: list[float], best: float | None, stop: bool):
    assert hopeless(samples, best) == stop


def test_sizes_become_sequences_and_heads():
    assert Sizes(tokens=1, heads=16).split == (1, 16)
    assert Sizes(tokens=1, heads=128).split == (8, 16)
    assert Sizes(tokens=1, heads=4).split == (1, 4)


class Cuda:
    """As much of torch.cuda as the protocol uses; `order` is what was queued."""

    def __init__(self, times: list[float]) -> None:
        self.order: list[str] = []
        self._times = iter(times)

    def synchronize(self) -> None:
        self.order.append("wait")

    def _sleep(self, cycles: int) -> None:
        assert cycles >= 0
        self.order.append("sleep")

    def get_device_properties(self, index: int):
        return SimpleNamespace(L2_cache_size=1000)

    def Event(self, enable_timing: bool):
        assert enable_timing
        return SimpleNamespace(
            record=lambda: self.order.append("event"), elapsed_time=lambda other: next(self._times)
        )  # fmt: skip


def timed(
    monkeypatch: pytest.MonkeyPatch, times: list[float], best: float | None
) -> tuple[device.Timed, Cuda, list[int]]:
    import torch

    cuda, sizes = Cuda(times), []

    def empty(size: int, **_: object):
        sizes.append(size)
        return SimpleNamespace(zero_=lambda: cuda.order.append("flush"))

    monkeypatch.setattr(torch, "cuda", cuda)
    monkeypatch.setattr(torch, "empty", empty)
    return device._timed(lambda: cuda.order.append("call"), 500, best), cuda, sizes


def test_the_protocol(monkeypatch: pytest.MonkeyPatch):
    """Compile, warm up; then flush, hold the device until all is queued, and time; the first sample is dropped."""
    found, cuda, sizes = timed(monkeypatch, [float(i) for i in range(SAMPLES)], None)
    assert found.samples == tuple(float(i) for i in range(SAMPLES))
    assert not found.clocks
    assert sizes == [2000], "twice the device's own cache, where that is more"
    assert cuda.order[:4] == ["call", "wait", "call", "wait"]
    assert cuda.order[4:] == ["flush", "sleep", "event", "call", "event", "wait"] * (SAMPLES + 1)


def test_the_hopeless_are_stopped_after_two_samples(monkeypatch: pytest.MonkeyPatch):
    found, *_ = timed(monkeypatch, [5.0] * SAMPLES, 1.0)
    assert found.samples == (5.0, 5.0)
    assert found.pruned


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
        return device.time_config(None, None, None, 0, None)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(os, "_exit", exit)
    monkeypatch.setattr(torch, "cuda", SimpleNamespace(empty_cache=lambda: None))
    monkeypatch.setattr(device, "_end_if_poisoned", lambda: None)
    assert fails(torch.OutOfMemoryError("too much")) == "memory"
    assert fails(OutOfResources(300_000, 232_448, "shared memory")) == "resources"
    assert fails(TypeError("what a compiler says")) == "compile"
    with pytest.raises(Ended):
        fails(RuntimeError("CUDA error: an illegal memory access was encountered"))


def test_clocks_are_read_where_nvml_is(monkeypatch: pytest.MonkeyPatch):
    import torch

    nvml = SimpleNamespace(
        NVML_CLOCK_SM=1, nvmlInit=lambda: None, nvmlDeviceGetHandleByUUID=lambda name: name,
        nvmlDeviceGetClockInfo=lambda handle, kind: 1980 if handle == "GPU-1234" else 0,
    )  # fmt: skip
    monkeypatch.setitem(sys.modules, "pynvml", nvml)
    monkeypatch.setattr(
        torch, "cuda", SimpleNamespace(get_device_properties=lambda index: SimpleNamespace(uuid="1234"))
    )
    assert device._clock()() == 1980.0
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert device._clock()() is None
