"""The life of a compiling process: it starts without an interpreter, and leaves no binary behind."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ...kernels.launches.compile import Binary, Launch

CompileTarget = tuple[str, int | str, int]
"""(backend, architecture, threads per warp), as `triton.backends.compiler.GPUTarget` takes them"""

COMPILE_SECONDS = 300.0
"""After which a compilation counts as hanging. The slowest that ended took a quarter of it, on a busy machine."""

_scratch: Path


def start() -> None:
    """Prepare a process of `Workers` to compile."""
    import torch
    from triton import knobs

    global _scratch
    torch.set_num_threads(1)
    # Triton would keep every binary; we keep the figures only.
    _scratch = Path(tempfile.mkdtemp(prefix="triton-"))
    knobs.cache.dir = str(_scratch)


def compile_clean(launch: Launch, target: CompileTarget) -> Binary:
    """Compile a launch. Raises the errors of the compiler."""
    from triton.backends.compiler import GPUTarget

    from ...kernels.launches.compile import compile_launch

    try:
        return compile_launch(launch, GPUTarget(*target))
    finally:
        for path in _scratch.iterdir():
            shutil.rmtree(path, ignore_errors=True)
