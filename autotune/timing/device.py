"""The tasks that run on a GPU, in a process of their own: gate one configuration, time one configuration.

Nothing here has run on a GPU yet: the protocol is as designed, and unmeasured.
"""

from __future__ import annotations

import os
import statistics
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NoReturn

if TYPE_CHECKING:
    from ...kernels.configs.launch_config import LaunchConfig
    from ...specs.gpus import Gpu
    from ..gates.interpreter import GateAnswer, GateQuestion
    from ..space.points import Family
    from .timings import Sample

PROTOCOL = "events-3"
"""CUDA events around the whole op, after a tenth of a second of running it; the last-level cache flushed, and the device kept
busy until all launches are queued, before each sample; samples of a device that throttles taken again, a few times."""
FINALS_PROTOCOL = f"{PROTOCOL}-finals"
"""The same, of a few configurations in turns."""
SAMPLES = 7
HOPELESS = 1.3
"""A configuration whose first two samples are this many times the best is not timed further."""
THROTTLED = 0.9
"""A clock below this part of the run's median is one of a device that throttles."""

_last_words: Path | None = None
"""The file that a child leaves the reason of its end in."""

Cause = Literal["memory", "resources", "compile", "timeout", "crash"]
"""Too little memory on the device; more shared memory or registers than it has; the compiler refuses it; it hangs; it crashes."""


class NoAnswer(OSError):
    """The device or the machine is broken, so that nothing can be said of any configuration. One line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The GPU of this process, as it reports itself. driver: its version; "api-" and that of its interface if only that is known.

    Limits in bytes and 32-bit registers, None where torch does not tell. clock_mhz: the highest.
    """

    name: str
    arch: str
    sm_count: int
    memory_gib: float
    driver: str
    shared_per_block: int | None = None
    shared_per_sm: int | None = None
    registers_per_sm: int | None = None
    l2_bytes: int | None = None
    clock_mhz: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Milliseconds sample by sample, and beside each the MHz of the multiprocessors; no clocks where nobody tells them.

    queued: whether all launches were queued before they ran, in every sample.
    """

    samples: tuple[float, ...]
    clocks: tuple[float, ...] = ()
    queued: bool = True

    @property
    def pruned(self) -> bool:
        return len(self.samples) < SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class TimingFailure:
    """Why a configuration has no times on a device that is in order. detail: one line, or ""."""

    reason: Cause
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else self.reason


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSizes:
    """A call to time: sequences of `tokens` tokens, `heads` = sequences x value heads, of one sequence if that is few."""

    tokens: int
    heads: int

    @property
    def split(self) -> tuple[int, int]:
        """(sequences, heads of each)"""
        return max(1, self.heads // 16), min(self.heads, 16)


def present() -> Device | None:
    """The first GPU, or None. Starts CUDA: call it in a child."""
    import torch

    if not torch.cuda.is_available():
        return None
    facts = torch.cuda.get_device_properties(0)
    kilohertz = getattr(facts, "clock_rate", None)
    return Device(
        name=facts.name,
        arch=facts.gcnArchName.partition(":")[0] if torch.version.hip else f"sm_{facts.major}{facts.minor}",
        sm_count=facts.multi_processor_count,
        memory_gib=facts.total_memory / 2**30,
        driver=_driver(),
        shared_per_block=getattr(facts, "shared_memory_per_block_optin", None) or None,
        shared_per_sm=getattr(facts, "shared_memory_per_multiprocessor", None) or None,
        registers_per_sm=getattr(facts, "regs_per_multiprocessor", None) or None,
        l2_bytes=getattr(facts, "L2_cache_size", None) or None,
        clock_mhz=kilohertz / 1e3 if kilohertz else None,
    )


def as_it_is(gpu: Gpu, device: Device) -> Gpu:
    """The facts of a GPU, corrected by those that the device reports."""
    arch = replace(
        gpu.arch,
        shared_per_block=device.shared_per_block or gpu.arch.shared_per_block,
        shared_per_sm=device.shared_per_sm or gpu.arch.shared_per_sm,
        registers_per_sm=device.registers_per_sm or gpu.arch.registers_per_sm,
    )
    return replace(
        gpu,
        arch=arch,
        sm_count=device.sm_count,
        l2_mib=device.l2_bytes / 2**20 if device.l2_bytes else gpu.l2_mib,
        clock_mhz=device.clock_mhz or gpu.clock_mhz,
    )


def _driver() -> str:
    """The driver's version where NVIDIA's management library tells it; else that of the interface it offers, labelled so."""
    import torch

    from .timings import nvml_of

    if torch.version.hip:
        return str(torch.version.hip)
    if nvml := nvml_of():
        version = nvml.nvmlSystemGetDriverVersion()
        return version.decode() if isinstance(version, bytes) else str(version)
    return f"api-{getattr(torch._C, '_cuda_getDriverVersion')()}"  # noqa: B009


def start() -> None:
    """Prepare a process."""
    import torch

    torch.set_num_threads(1)


def begin(start: Callable[[], None], last_words: Path) -> None:
    """Prepare a child process that writes its exit reason to a file."""
    global _last_words
    _last_words = last_words
    start()


def alive() -> bool:
    """True if the device computes a small product. Ends the process otherwise: a fresh one may be asked again."""
    import torch

    try:
        halves = torch.full((64, 64), 0.5, device="cuda")
        total = float((halves @ halves).sum().item())
    except Exception as error:
        _end(_told(error))
    if total != 64 * 64 * 16:
        _end(f"a product on the device sums to {total}, and to {64 * 64 * 16} if it is right")
    return True


def judge(question: GateQuestion) -> GateAnswer:
    """The gate on the device."""
    from ...verify.process.lost_device import DeviceLost
    from ..gates.interpreter import judge_on_device

    try:
        answer = judge_on_device(question)
    except DeviceLost as lost:
        _end(str(lost))
    if not answer.held:
        _end_if_poisoned(answer.detail)
    return answer


def time_config(
    family: Family, sizes: CallSizes, config: LaunchConfig, flush_bytes: int, best: float | None
) -> Timed | TimingFailure:
    """Time one configuration: at least two samples, or why there are none.

    best: milliseconds of the best configuration so far; None for none. An error of the device ends the process, as nothing
    that runs in it afterwards can be trusted.
    """
    import torch
    from triton.runtime.errors import OutOfResources

    try:
        return _timed(_call(family, sizes, config), flush_bytes, best)
    except OutOfResources:
        return TimingFailure(reason="resources")
    except RuntimeError as error:
        cause = "memory" if isinstance(error, torch.OutOfMemoryError) else _cause(error)
        if cause is None:
            # The context may be poisoned: a fresh process takes the next configuration.
            _end(_told(error))
        _end_if_poisoned(_told(error))
        if cause == "memory":
            torch.cuda.empty_cache()
        return TimingFailure(reason=cause)
    except Exception as error:
        # Errors of Triton's compiler share no base class with anything.
        _end_if_poisoned(_told(error))
        return TimingFailure(reason="compile")


def hopeless(samples: Sequence[float], best: float | None) -> bool:
    """Whether a configuration is not worth more samples: the first two both tell that it is far from the best."""
    return best is not None and len(samples) == 2 and min(samples) > HOPELESS * best


def _timed(call: Callable[[], object], flush_bytes: int, best: float | None) -> Timed:
    import torch

    from .timings import Stopwatch

    call()  # compiles
    torch.cuda.synchronize()
    watch = Stopwatch(flush_bytes)
    watch.warm(call)
    kept: list[Sample] = []
    redos = SAMPLES
    while len(kept) < SAMPLES:
        sample = watch.sample(call)
        if redos and _throttled(sample):
            redos -= 1
            continue
        kept.append(sample)
        # A device that is slower than it was would make anything look hopeless.
        if hopeless([one.milliseconds for one in kept], best) and not any(map(_throttled, kept)):
            break
    clocks = tuple(one.megahertz for one in kept if one.megahertz)
    _clocks.extend(clocks)
    return Timed(
        samples=tuple(one.milliseconds for one in kept), clocks=clocks if len(clocks) == len(kept) else (),
        queued=all(one.queued for one in kept),
    )  # fmt: skip


_clocks: deque[float] = deque(maxlen=50 * SAMPLES)
"""Of the samples that this process took last."""


def _throttled(sample: Sample) -> bool:
    """Whether the device ran slower than it does in this run: too hot, or short of power."""
    if sample.megahertz is None or not _clocks:
        return False
    return sample.megahertz < THROTTLED * statistics.median(_clocks)


def _cause(error: RuntimeError) -> Cause | None:
    """The cause of a failed launch or compilation, if the device can be in order after it."""
    text = str(error).casefold()
    return next((cause for words, cause in _CAUSES.items() if words in text), None)


_CAUSES: Mapping[str, Cause] = {
    "out of memory": "memory",
    "out of resource": "resources",
    "too many resources requested": "resources",
    "passmanager::run failed": "compile",
    "failed to translate": "compile",
}
"""By words of Triton's and of the driver's messages, which come as plain RuntimeErrors."""


def _end_if_poisoned(after: str) -> None:
    """End the process if the device answers no more: every later configuration would fail for a reason not its own.

    after: the error before, which the parent is told.
    """
    import torch

    try:
        torch.cuda.synchronize()
        torch.zeros(1, device="cuda").item()
    except Exception:  # a torch without CUDA asserts that it has none
        _end(after)


def _end(words: str) -> NoReturn:
    """End the process at once, as its destructors may hang, and leave the reason to its parent."""
    if _last_words is not None:
        with suppress(OSError):
            _last_words.write_text(words, encoding="utf-8", errors="replace")
    os._exit(1)


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"


def _call(family: Family, sizes: CallSizes, config: LaunchConfig, device: str = "cuda") -> Callable[[], object]:
    """One run of the op, forward or forward and backward, on ordinary inputs."""
    import torch

    from ...kernels import gated_delta_rule
    from ...specs.dtypes import TORCH_DTYPES
    from ...specs.rule import RULES

    rule, dtype = RULES[family.rule], TORCH_DTYPES[family.dtype]  # pyright: ignore[reportArgumentType]
    sequences, heads = sizes.split
    generator = torch.Generator(device).manual_seed(0)

    def normal(*channels: int) -> torch.Tensor:
        return torch.randn(sequences, sizes.tokens, heads, *channels, device=device, generator=generator)

    def gate(tie: str, channels: int) -> torch.Tensor | None:
        return (
            None if tie in ("none", "tied") else normal(*([channels] if tie == "channel" else [])).sigmoid().to(dtype)
        )

    q, k = (torch.nn.functional.normalize(normal(family.K), dim=-1).to(dtype) for _ in range(2))
    decay = gate(rule.decay, family.K)
    inputs = {
        "q": q,
        "k": k,
        "v": normal(family.V).to(dtype),
        "g": None if decay is None else decay.float().log(),
        "b": gate(rule.erase, family.K),
        "w": gate(rule.write, family.V),
    }
    if family.op == "chunk_fwd":
        return lambda: gated_delta_rule(**inputs, variant=config.variant, config=config)
    leaves = [tensor.requires_grad_() for tensor in inputs.values() if tensor is not None]
    grad = normal(family.V).to(dtype)

    def step() -> None:
        o, _ = gated_delta_rule(**inputs, variant="staged", config=config)
        torch.autograd.grad(o, leaves, grad)

    return step
