"""What runs on a GPU, in a process of its own: gate one configuration, time one configuration.

Nothing here has run on a GPU yet: the protocol is as designed, and unmeasured.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..kernels.config import LaunchConfig
    from .gate import Answer, Question
    from .points import Family

PROTOCOL = "events-1"
"""CUDA events around the whole op; the last-level cache flushed before each sample; the first sample dropped."""
SAMPLES = 7
HOPELESS = 1.3
"""A configuration whose first two samples are this many times the best is not timed further."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """The GPU of this process. memory_gib: as it reports it. driver: the version of the CUDA driver's interface."""

    name: str
    arch: str
    sm_count: int
    memory_gib: float
    driver: str


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

    return judge_on(question, "cuda")


def time_config(
    family: Family, sizes: Sizes, config: LaunchConfig, flush_bytes: int, best: float | None
) -> tuple[float, ...] | Literal["memory"]:
    """Milliseconds, sample by sample, at least two; "memory" if the device has too little.

    best: of the other configurations; None for none. An error of the device ends the process, as nothing that runs in it
    afterwards can be trusted.
    """
    import torch

    try:
        call = _call(family, sizes, config)
        call()
        torch.cuda.synchronize()
        flush = torch.empty(flush_bytes, dtype=torch.int8, device="cuda")
        samples: list[float] = []
        for index in range(SAMPLES + 1):
            flush.zero_()
            begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            begin.record()
            call()
            end.record()
            torch.cuda.synchronize()
            if index:
                samples.append(begin.elapsed_time(end))
            if best is not None and len(samples) == 2 and min(samples) > HOPELESS * best:
                break
        return tuple(samples)
    except torch.OutOfMemoryError:
        return "memory"
    except RuntimeError:
        # The context may be poisoned: a fresh process takes the next configuration.
        os._exit(1)


def _call(family: Family, sizes: Sizes, config: LaunchConfig) -> Any:
    """One run of the op, forward or forward and backward, on ordinary inputs."""
    import torch

    from ..kernels import gated_delta_rule
    from ..kernels.launches import DTYPES
    from ..specs.rule import RULES

    rule, dtype = RULES[family.rule], DTYPES[family.dtype]  # pyright: ignore[reportArgumentType]
    sequences, heads = sizes.split
    generator = torch.Generator("cuda").manual_seed(0)

    def normal(*channels: int) -> torch.Tensor:
        return torch.randn(sequences, sizes.tokens, heads, *channels, device="cuda", generator=generator)

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
        return lambda: gated_delta_rule(**inputs, variant="split", config=config)
    leaves = [tensor.requires_grad_() for tensor in inputs.values() if tensor is not None]
    grad = normal(family.V).to(dtype)

    def step() -> None:
        o, _ = gated_delta_rule(**inputs, variant="staged", config=config)
        torch.autograd.grad(o, leaves, grad)

    return step
