"""What runs on a GPU, in a process of its own: gate one configuration, time one configuration.

Nothing here has run on a GPU yet: the protocol is as designed, and unmeasured.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from ..kernels.config import LaunchConfig
    from .gate import Answer, Question
    from .points import Family

PROTOCOL = "events-2"
"""CUDA events around the whole op; the last-level cache flushed, and the device kept busy until all launches are queued,
before each sample; the first sample dropped."""
SAMPLES = 7
HOPELESS = 1.3
"""A configuration whose first two samples are this many times the best is not timed further."""

Failure = Literal["memory", "resources", "compile"]
"""Too little memory on the device; more shared memory or registers than it has; the compiler refuses it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The GPU of this process. memory_gib: as it reports it. driver: the version of the CUDA driver's interface."""

    name: str
    arch: str
    sm_count: int
    memory_gib: float
    driver: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Milliseconds sample by sample, and beside each the MHz of the multiprocessors; no clocks where nobody tells them."""

    samples: tuple[float, ...]
    clocks: tuple[float, ...] = ()

    @property
    def pruned(self) -> bool:
        return len(self.samples) < SAMPLES


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
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
    arch = facts.gcnArchName.partition(":")[0] if torch.version.hip else f"sm_{facts.major}{facts.minor}"
    driver = str(torch.version.hip or getattr(torch._C, "_cuda_getDriverVersion")())  # noqa: B009
    return Device(
        name=facts.name,
        arch=arch,
        sm_count=facts.multi_processor_count,
        memory_gib=facts.total_memory / 2**30,
        driver=driver,
    )


def start() -> None:
    """Prepare a process."""
    import torch

    torch.set_num_threads(1)


def judge(question: Question) -> Answer:
    """The gate on the device: the interpreter's cases as compiled code, and the same bits on every repeat."""
    from .gate import judge_on

    answer = judge_on(question, "cuda")
    if not answer.held:
        _end_if_poisoned()
    return answer


def time_config(
    family: Family, sizes: Sizes, config: LaunchConfig, flush_bytes: int, best: float | None
) -> Timed | Failure:
    """Time one configuration: at least two samples, or why there are none.

    best: milliseconds of the best configuration so far; None for none. An error of the device ends the process, as nothing
    that runs in it afterwards can be trusted.
    """
    import torch
    from triton.runtime.errors import OutOfResources

    try:
        return _timed(_call(family, sizes, config), flush_bytes, best)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
        return "memory"
    except OutOfResources:
        return "resources"
    except RuntimeError:
        # The context may be poisoned: a fresh process takes the next configuration.
        os._exit(1)
    except Exception:
        # Errors of Triton's compiler share no base class with anything.
        _end_if_poisoned()
        return "compile"


def hopeless(samples: Sequence[float], best: float | None) -> bool:
    """Whether a configuration is not worth more samples: the first two both tell that it is far from the best."""
    return best is not None and len(samples) == 2 and min(samples) > HOPELESS * best


def _timed(call: Callable[[], object], flush_bytes: int, best: float | None) -> Timed:
    import torch

    call()  # compiles
    torch.cuda.synchronize()
    began = time.perf_counter()
    call()
    queued = time.perf_counter() - began
    torch.cuda.synchronize()
    cache = getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0)
    flush = torch.empty(max(flush_bytes, 2 * cache), dtype=torch.int8, device="cuda")
    clock = _clock()
    samples: list[float] = []
    clocks: list[float] = []
    for index in range(SAMPLES + 1):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        flush.zero_()
        # Without this a short op would wait for its launches, and their time be measured instead of its own.
        torch.cuda._sleep(int(_CYCLES_PER_SECOND * 2 * queued))
        begin.record()
        call()
        end.record()
        megahertz = clock()
        torch.cuda.synchronize()
        if index:
            samples.append(begin.elapsed_time(end))
            clocks += [megahertz] if megahertz else []
        if hopeless(samples, best):
            break
    return Timed(samples=tuple(samples), clocks=tuple(clocks) if len(clocks) == len(samples) else ())


_CYCLES_PER_SECOND = 2.0e9
"""About what multiprocessors run at."""


def _clock() -> Callable[[], float | None]:
    """Reads the multiprocessors' clock in MHz; None where nvidia-ml-py is not installed or knows no such device."""
    try:
        import pynvml  # pyright: ignore[reportMissingImports]
        import torch

        pynvml.nvmlInit()
        identity = str(torch.cuda.get_device_properties(0).uuid)
        handle = pynvml.nvmlDeviceGetHandleByUUID(identity if identity.startswith("GPU-") else f"GPU-{identity}")
        pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM)
    except Exception:  # NVML has a class for every error, and none of them matters here
        return lambda: None
    return lambda: float(pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM))


def _end_if_poisoned() -> None:
    """End the process if the device answers no more: whatever it judged next would fail for a reason not its own."""
    import torch

    try:
        torch.cuda.synchronize()
        torch.zeros(1, device="cuda").item()
    except RuntimeError:
        os._exit(1)


def _call(family: Family, sizes: Sizes, config: LaunchConfig, device: str = "cuda") -> Callable[[], object]:
    """One run of the op, forward or forward and backward, on ordinary inputs."""
    import torch

    from ..kernels import gated_delta_rule
    from ..specs.dtypes import TORCH_DTYPES
    from ..specs.rule import RULES

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
