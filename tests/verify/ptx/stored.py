"""Compiled programs that tests keep: made by Triton from our own kernels, compressed, and made again by `make ptx-data`."""

from __future__ import annotations

import lzma
import re
from pathlib import Path

import numpy as np

from deltaproof.verify.ptx.assembly.assemble import assemble
from deltaproof.verify.ptx.assembly.program import Program
from deltaproof.verify.ptx.machine import Argument, DeviceMemory, Pointer

DATA = Path(__file__).with_name("data")


def read(name: str) -> str:
    return lzma.decompress((DATA / f"{name}.ptx.xz").read_bytes()).decode()


def write(name: str, ptx: str) -> None:
    """Keep a program without its debug sections and the comments that say nothing."""
    end = ptx.find(".section")
    kept = re.sub(r"^\s*//[^\n]*\n", "", ptx[:end] if end > 0 else ptx, flags=re.MULTILINE)
    DATA.mkdir(exist_ok=True)
    (DATA / f"{name}.ptx.xz").write_bytes(lzma.compress(kept.encode(), preset=9 | lzma.PRESET_EXTREME))


def packed_scores(name: str, shared: int, tokens: int, chunk: int, size: int = 128):
    """A stored `packed_scores` of gdn with one head, and a launch of it on random inputs.

    Returns the program, its arguments, its memories and its grid.
    """
    rng = np.random.default_rng(0)

    def bf16(*shape: int, scale: float = 1.0) -> np.ndarray:
        real = (rng.standard_normal(shape) * scale).astype(np.float32)
        return (real.view(np.uint32) >> 16).astype(np.uint16).reshape(-1).view(np.uint8)

    program: Program = assemble(read(name), shared)
    rows = [(at, min(chunk, tokens - at)) for at in range(0, tokens, chunk)]
    inputs = {
        "q": bf16(tokens, size, scale=size**-0.5), "k": bf16(tokens, size, scale=size**-0.5),
        "g": (-rng.random(tokens, dtype=np.float32)).view(np.uint8), "b": bf16(tokens, scale=0.2),
        "pack": np.zeros(tokens * chunk * 2, np.uint8),
        "chunks": np.array(rows, np.int64).view(np.uint8).reshape(-1),
    }  # fmt: skip
    memories = [DeviceMemory(name=key, content=value.copy()) for key, value in inputs.items()]
    arguments: list[Argument] = [*(Pointer(i) for i in range(6)), tokens, size**-0.5, 1e-6]
    arguments += [0] * (len(program.kernel.parameters) - len(arguments))
    return program, arguments, memories, (-(-tokens // chunk), 1, 1)
