"""Time, memory and error of calls, on a GPU or a CPU.

On a GPU: as the tuner does, by CUDA events. On a CPU: the processor time of this process where torch has one thread, which
leaves out what other programs take meanwhile; else the time on the clock. Contestants take turns, a sample each per round, so
that drift hits all alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from contestants import Answer, Call
from shapes import Work

from deltaproof.autotune.timing import stopwatch
from deltaproof.kernels import gated_delta_rule

CHECKED_HEADS = 2
"""Heads of the first sequence whose outputs are compared with fp64."""


class Stopwatch:
    """Takes samples of calls on one device."""

    def __init__(self, device: str) -> None:
        self._cuda = device == "cuda"
        self._events = stopwatch.Stopwatch() if self._cuda else None

    def sample(self, call: Callable[[], object]) -> float:
        """Milliseconds of one call."""
        if self._events:
            return self._events.sample(call).milliseconds
        clock = cpu_clock()
        begun = clock()
        call()
        return 1e3 * (clock() - begun)

    def take(self, call: Callable[[], object]) -> dict[str, Any]:
        """A sample with what is known of how it was taken: the clock in MHz, and whether all launches were queued in time."""
        if not self._events:
            return {"milliseconds": self.sample(call)}
        one = self._events.sample(call)
        return {"milliseconds": one.milliseconds, "megahertz": one.megahertz, "queued": one.queued}

    def warm(self, call: Callable[[], object]) -> None:
        """Run a call until the device's clocks are up; once on a CPU."""
        if self._events:
            self._events.warm(call)
        else:
            call()

    def peak(self, call: Callable[[], object]) -> int | None:
        """Bytes that a call allocates at most, beyond what was there; None on a CPU."""
        if not self._cuda:
            return None
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - before

    def copy_floor(self, rounds: int = 5) -> tuple[int, list[float]]:
        """(bytes read and written, milliseconds of each sample) of a copy that no cache holds."""
        size = min(4 << 30, torch.cuda.mem_get_info()[0] // 4) if self._cuda else 32 << 20
        source = torch.empty(size, dtype=torch.int8, device="cuda" if self._cuda else "cpu").zero_()
        target = torch.empty_like(source)
        target.copy_(source)
        return 2 * size, [self.sample(lambda: target.copy_(source)) for _ in range(rounds)]


def cpu_clock() -> Callable[[], float]:
    """Seconds. Of several threads the processor time adds up, and says nothing of how long a call takes."""
    return time.process_time if torch.get_num_threads() == 1 else time.perf_counter


def captured(call: Call) -> Callable[[], object]:
    """The call as a CUDA graph, replayed. Raises RuntimeError where it cannot be captured."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        kept = call()

    def replay() -> Answer:
        graph.replay()
        return kept

    return replay


def reference(work: Work, made: dict[str, torch.Tensor]) -> torch.Tensor:
    """Outputs in fp64 of the first heads of the first sequence [1, T, heads, D]."""
    few: dict[str, Any] = {
        name: made[name][:1, :, :CHECKED_HEADS].double() for name in ("q", "k", "v", "g", "b", "w") if name in made
    }
    states = made["h0"][:1, :CHECKED_HEADS].double() if "h0" in made else None
    with torch.no_grad():
        o, _ = gated_delta_rule(
            **few, initial_state=states, variant="torch", use_qk_l2norm_in_kernel=True, check_values=False
        )
    return o


def error_of(o: torch.Tensor, expected: torch.Tensor) -> float | None:
    """Root mean square error over that of the reference; None where something is not finite."""
    found = o[:1, :, :CHECKED_HEADS].double()
    if not bool(found.isfinite().all()):
        return None
    return float((found - expected).square().mean().sqrt() / expected.square().mean().sqrt())
