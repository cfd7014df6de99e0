"""NVIDIA's assembler, as Triton calls it, on a text: the machine code that a GPU would run."""

from __future__ import annotations

import contextlib
import io
import re
from dataclasses import dataclass

from triton.backends.compiler import GPUTarget
from triton.backends.nvidia.compiler import CUDABackend, get_ptxas
from triton.runtime.errors import PTXASError

from .errors import PtxError

_TARGET = re.compile(r"(?m)^\s*\.target\s+(sm_(\d+)\w?)")
_ENTRY = re.compile(r"\.entry\s+([\w$]+)")
_SAYS = re.compile(r"(?m)^ptxas .*?;\s*(.*)$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """code: a cubin. kernel: name of its first entry. arch: "sm_90a". version: of the assembler."""

    code: bytes
    kernel: str
    arch: str
    version: str


def assemble(ptx: str) -> Assembled:
    """The machine code of a text. Raises PtxError, with the first words of the assembler, for a text that it refuses."""
    target, entry = _TARGET.search(ptx), _ENTRY.search(ptx)
    if target is None or entry is None:
        raise PtxError("it names no .target or has no .entry")
    number = int(target.group(2))
    # Below 8.0 Triton has no backend.
    if number < 80:
        raise PtxError(f"it is for {target.group(1)}; accepted: sm_80 and later")
    backend, version = CUDABackend(GPUTarget("cuda", number, 32)), get_ptxas(number).version or "unknown"
    try:
        # Where it fails, Triton prints the whole text.
        with contextlib.redirect_stdout(io.StringIO()):
            code = backend.make_cubin(ptx, {}, backend.parse_options({}), number)
    except PTXASError as error:
        said = _SAYS.search(str(error))
        raise PtxError(f"ptxas {version} refuses it: {said.group(1) if said else str(error).splitlines()[0]}") from None
    return Assembled(code=code, kernel=entry.group(1), arch=target.group(1), version=version)
