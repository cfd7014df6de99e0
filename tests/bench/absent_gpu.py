"""Compile for a GPU that is not here: Triton is told of one, and our operators take CPU tensors. Nothing can be launched."""

from __future__ import annotations

from typing import Any

from triton.backends.compiler import GPUTarget
from triton.runtime import driver


class _Driver:
    """What Triton asks of a driver until it launches."""

    def __init__(self, target: GPUTarget) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_benchmarker(self) -> Any:
        raise RuntimeError("there is no GPU here to time on")


def pretend(arch: int = 90) -> None:
    """For the rest of this process, which must not have run a kernel yet."""
    from deltaproof.kernels.ops import operator

    driver.set_active(_Driver(GPUTarget("cuda", arch, 32)))  # pyright: ignore[reportArgumentType]
    setattr(operator, "runs_triton", lambda tensor: True)  # noqa: B010
