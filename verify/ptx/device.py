"""A GPU that is not there: Triton compiles for it and launches on it, and a function of ours gets every launch.

Tensors lie on the CPU. Before a launch, Triton does everything that it always does, in any version: specialisation, tensor
descriptors, autotuning. An autotuner takes its first configuration, since nothing here has a speed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler.compiler import CompiledKernel
from triton.runtime.driver import driver


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceLaunch:
    """One launch as the device would see it. arguments: those of the source kernel, in order, constants among them."""

    kernel: Any
    grid: tuple[int, int, int]
    arguments: tuple[Any, ...]

    @property
    def name(self) -> str:
        return self.kernel.metadata.name

    @property
    def ptx(self) -> str:
        return self.kernel.asm["ptx"]


Handler = Callable[[DeviceLaunch], None]


@dataclass(frozen=True, slots=True)
class _Facts:
    """The properties that a GPU of an architecture reports. shared: bytes that a program may have."""

    name: str
    shared: int
    processors: int


# By `architectures.ARCHITECTURES`.
_FACTS = {
    80: _Facts("NVIDIA A100", 166912, 108), 86: _Facts("NVIDIA A40", 101376, 84),
    89: _Facts("NVIDIA L40", 101376, 128), 90: _Facts("NVIDIA H100", 232448, 132),
}  # fmt: skip


class _Tools:
    """The functions of a driver's library that Triton calls."""

    def __init__(self, arch: int) -> None:
        self.arch = arch

    def get_device_properties(self, device: int) -> dict[str, int]:
        return {
            "max_shared_mem": _FACTS[self.arch].shared, "multiprocessor_count": _FACTS[self.arch].processors,
            "max_num_regs": 65536, "warpSize": 32, "sm_clock_rate": 1_000_000, "mem_clock_rate": 1_000_000, "mem_bus_width": 5120,
        }  # fmt: skip

    def load_binary(self, name: str, *rest: Any) -> tuple[Any, ...]:
        return object(), name, 64, 0, 1024


class SimulatedDriver:
    """A driver of Triton for a device of this architecture. Its device number is the architecture, for Triton's caches."""

    on_cpu = True

    def __init__(self, arch: int) -> None:
        self.arch = arch
        self.utils = _Tools(arch)

    @classmethod
    def is_active(cls) -> bool:
        return True

    def map_python_to_cpp_type(self, kind: str) -> str:
        return kind

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", self.arch, 32)

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")

    def get_device_interface(self) -> Any:
        return torch.cpu

    def get_current_device(self) -> int:
        return self.arch

    def set_current_device(self, device: int) -> None: ...

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        return divmod(self.arch, 10)

    def get_benchmarker(self) -> Callable[..., Sequence[float]]:
        return lambda call, quantiles=(0.5,), **_: [1.0] * len(quantiles)

    def get_empty_cache_for_benchmark(self) -> torch.Tensor:
        return torch.empty(0)

    def clear_cache(self, cache: Any) -> None: ...

    def launcher_cls(self, source: Any, metadata: Any) -> Callable[..., None]:
        raise RuntimeError("a launch went by the simulated device")


@contextmanager
def simulated(arch: int, handler: Handler) -> Iterator[None]:
    """Within, every launch of a Triton kernel is compiled for this architecture and given to `handler`, on CPU tensors.

    Raises RuntimeError under TRITON_INTERPRET, where nothing compiles.
    """
    if knobs.runtime.interpret:
        raise RuntimeError("kernels were imported for Triton's interpreter; run in a process without TRITON_INTERPRET")

    def start(kernel: Any) -> None:
        if kernel.module is not None:
            return
        kernel.module, kernel.function = object(), kernel.metadata.name
        kernel.n_regs, kernel.n_spills, kernel.n_max_threads = 64, 0, 1024

        def launch(x: int, y: int, z: int, *rest: Any) -> None:
            # stream, function, packed metadata, launch metadata and two hooks stand before the arguments
            _current[-1](DeviceLaunch(kernel=kernel, grid=(x, y, z), arguments=tuple(rest[6:])))

        kernel._run = launch

    original = CompiledKernel._init_handles
    asked = {name: getattr(torch.cuda, name) for name in _ANSWERS}
    active = driver._active if hasattr(driver, "_active") else None
    CompiledKernel._init_handles = start  # pyright: ignore[reportAttributeAccessIssue]
    driver.set_active(SimulatedDriver(arch))  # pyright: ignore[reportArgumentType]
    _current.append(handler)
    for name, answer in _ANSWERS.items():
        setattr(torch.cuda, name, answer(arch))
    try:
        yield
    finally:
        for name, known in asked.items():
            setattr(torch.cuda, name, known)
        _current.pop()
        CompiledKernel._init_handles = original
        if active is not None:
            driver.set_active(active)
        else:
            driver._active = None  # pyright: ignore[reportAttributeAccessIssue]


_current: list[Handler] = []


def _properties(arch: int) -> SimpleNamespace:
    (major, minor), facts = divmod(arch, 10), _FACTS[arch]
    return SimpleNamespace(
        name=facts.name, major=major, minor=minor, multi_processor_count=facts.processors, total_memory=80 << 30,
        shared_memory_per_block_optin=facts.shared, warp_size=32, regs_per_multiprocessor=65536,
    )  # fmt: skip


# The functions by which code queries its GPU before a launch. Tensors stay on the CPU, and `torch.cuda.is_available()` keeps
# saying no.
_ANSWERS: dict[str, Callable[[int], Any]] = {
    "get_device_name": lambda arch: lambda *_: _FACTS[arch].name,
    "get_device_capability": lambda arch: lambda *_: divmod(arch, 10),
    "get_device_properties": lambda arch: lambda *_: _properties(arch),
    "device": lambda _: lambda *_: nullcontext(),
    "current_device": lambda _: lambda: 0,
    "device_count": lambda _: lambda: 1,
    "synchronize": lambda _: lambda *_: None,
}
