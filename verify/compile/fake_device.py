"""Let Triton, torch and whoever asks them take this process for one with a certain GPU.

Call `install` before the kernels are imported, in a process of its own. Nothing is launched in such a process.
"""

from __future__ import annotations

from typing import Any

from ...specs.gpus import Gpu
from .process import start as start_compiling

Facts = tuple[str, str, int, int]
"""Architecture ("sm_90"), name of the device, multiprocessors, and bytes of shared memory that a program may have."""


def facts(gpu: Gpu) -> Facts:
    return gpu.arch.name, gpu.aliases[0] if gpu.aliases else gpu.slug, gpu.sm_count, gpu.arch.shared_per_block


def install(facts: Facts) -> None:
    """Pretend. From here on every benchmark raises Benchmarked."""
    arch, name, sm_count, shared = facts
    start_compiling()
    import torch
    import triton

    driver: Any = _Driver(target(arch), sm_count, shared)
    triton.runtime.driver.set_active(driver)
    torch.cuda.get_device_capability = lambda *_: capability(arch)
    torch.cuda.get_device_name = lambda *_: name
    torch.cuda.device_count = lambda: 1
    torch.cuda.current_device = lambda: 0


def capability(arch: str) -> tuple[int, int]:
    number = int(arch.removeprefix("sm_"))
    return number // 10, number % 10


def target(arch: str) -> Any:
    from triton.backends.compiler import GPUTarget

    major, minor = capability(arch)
    return GPUTarget("cuda", 10 * major + minor, 32)


class Benchmarked(RuntimeError):
    """A kernel would have been benchmarked."""


class _Driver:
    """As much of Triton's driver as is asked for without a launch."""

    def __init__(self, target: Any, sm_count: int, shared: int) -> None:
        self._target = target
        properties = {
            "max_shared_mem": shared, "multiprocessor_count": sm_count, "max_num_regs": 65536, "warpSize": 32
        }  # fmt: skip
        self.utils = type("Utils", (), {"get_device_properties": staticmethod(lambda device: properties)})

    def get_current_target(self) -> Any:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_active_torch_device(self) -> Any:
        import torch

        return torch.device("cuda", 0)

    def get_device_interface(self) -> Any:
        import torch

        return torch.cuda

    def get_benchmarker(self) -> Any:
        def benchmark(*_: Any, **__: Any) -> None:
            raise Benchmarked

        return benchmark
