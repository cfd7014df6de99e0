"""How long a call takes on the GPU of this process, sample by sample. Nothing here has run on a GPU yet.

Before each sample the last-level cache is flushed, and the device is kept busy until the host has queued the whole call: without
that a short call would wait for its launches, and their time be measured instead of its own.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

WARM = 0.1
"""Seconds of running before the first sample: an idle device has lowered its clocks, and takes as long to raise them."""
CYCLES_PER_SECOND = 2.0e9
"""The usual clock of multiprocessors, about."""
HOLD = 1e-4
"""Seconds that the device is kept busy, at least; and MOST_HELD at most, after which a call is not one that can be queued."""
MOST_HELD = 0.4


@dataclass(frozen=True, slots=True)
class Sample:
    """milliseconds: of one call. megahertz: of the multiprocessors, the lower of just before and just after; None if unknown.

    queued: whether all launches were queued in time. Otherwise this is the time of the launches too: the call waits for the
    device itself.
    """

    milliseconds: float
    megahertz: float | None
    queued: bool


class Stopwatch:
    """Takes samples of calls. flush_bytes: to write before each of them; twice the device's own cache where that is more."""

    def __init__(self, flush_bytes: int = 0) -> None:
        cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 64 << 20)
        self._flush = torch.empty(max(flush_bytes, 2 * cache), dtype=torch.int8, device="cuda")
        self._clock = clock()

    def warm(self, call: Callable[[], object]) -> None:
        """Run a call, compiled before, until the device has run for WARM seconds."""
        torch.cuda.synchronize()
        began = time.perf_counter()
        while time.perf_counter() - began < WARM:
            # Several at once, as the device would rest while each is queued.
            for _ in range(8):
                call()
            torch.cuda.synchronize()

    def sample(self, call: Callable[[], object]) -> Sample:
        """One call, and one before it that tells how long queueing takes."""
        began = time.perf_counter()
        call()
        held = max(HOLD, 2 * (time.perf_counter() - began))
        torch.cuda.synchronize()
        sample = self._sample(call, held)
        while not sample.queued and held < MOST_HELD:
            held *= 2
            sample = self._sample(call, held)
        return sample

    def _sample(self, call: Callable[[], object], held: float) -> Sample:
        before = self._clock()
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        self._flush.zero_()
        torch.cuda._sleep(int(CYCLES_PER_SECOND * held))
        begin.record()
        call()
        end.record()
        # Had the device come so far already, it would have waited for the next commands.
        queued = not begin.query()
        torch.cuda.synchronize()
        after = self._clock()
        megahertz = min(before, after) if before and after else None
        return Sample(begin.elapsed_time(end), megahertz, queued)


def clock() -> Callable[[], float | None]:
    """Reads the multiprocessors' clock in MHz; None where nvidia-ml-py is not installed or knows no such device."""
    nvml = nvml_of()
    if nvml is None:
        return lambda: None
    try:
        identity = str(torch.cuda.get_device_properties(0).uuid)
        handle = nvml.nvmlDeviceGetHandleByUUID(identity if identity.startswith("GPU-") else f"GPU-{identity}")
        nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM)
    except Exception:  # NVML has a class for every error, and none of them matters here
        return lambda: None

    def read() -> float | None:
        try:
            return float(nvml.nvmlDeviceGetClockInfo(handle, nvml.NVML_CLOCK_SM))
        except nvml.NVMLError:
            return None

    return read


def nvml_of() -> Any | None:
    """NVIDIA's management library, ready; None where nvidia-ml-py is not installed or finds no driver."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]

        pynvml.nvmlInit()
    except Exception:  # as above
        return None
    return pynvml
