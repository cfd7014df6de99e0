"""The options of a launch."""

from __future__ import annotations

from functools import lru_cache

import torch

from ...specs.gpus import REGISTERS_PER_THREAD

THREADS_PER_WARP = 32
REGISTERS_PER_PROGRAM = 65_536
"""Of NVIDIA's GPUs since sm_80 (CUDA C++ Programming Guide, table of technical specifications per compute capability)."""


@lru_cache
def launch_options(num_warps: int, num_stages: int | None = None) -> dict[str, int]:
    """Warps and pipeline depth, and on NVIDIA's GPUs as many registers per thread as the hardware allows.

    Left to choose, ptxas now and then settles for 32 registers and spills thousands of bytes (`.maxnreg` of the PTX ISA).
    The dictionary is the same for every caller: to be read, not written to.
    """
    options = {"num_warps": num_warps}
    if num_stages is not None:
        options["num_stages"] = num_stages
    if torch.version.hip is None:
        options["maxnreg"] = min(REGISTERS_PER_THREAD, REGISTERS_PER_PROGRAM // (num_warps * THREADS_PER_WARP))
    return options
