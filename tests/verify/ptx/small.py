"""Small programs in PTX, written by hand: a body is all that a test has to say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from deltaproof.verify.ptx.assembly.assemble import assemble
from deltaproof.verify.ptx.machine import Argument, DeviceMemory, Pointer
from deltaproof.verify.ptx.schedules import ALL, Schedule
from deltaproof.verify.ptx.verdict import PtxVerdict, judge

HEAD = """.version 8.7
.target sm_90a
.address_size 64
.extern .shared .align 16 .b8 smem[];
.visible .entry small({parameters})
.reqntid {threads}
{{
    .reg .pred %p<20>;
    .reg .b16 %h<20>;
    .reg .b32 %r<80>;
    .reg .b64 %d<20>;
{loads}
    mov.u32 %r0, %tid.x;
    shr.u32 %r1, %r0, 5;
    shl.b32 %r2, %r0, 2;
{body}
    ret;
}}
"""


def module(body: str, threads: int = 128, pointers: int = 1) -> str:
    """A kernel: %r0 is the thread, %r1 its warp, %r2 four times the thread, %d0... the pointers it is given."""
    parameters = ", ".join(f".param .u64 small_param_{i}" for i in range(pointers))
    loads = "\n".join(f"    ld.param.b64 %d{i}, [small_param_{i}];" for i in range(pointers))
    return HEAD.format(parameters=parameters, threads=threads, loads=loads, body=body)


def verdict(
    body: str, *arrays: np.ndarray, threads: int = 128, shared: int = 4096, grid: tuple[int, int, int] = (1, 1, 1),
    schedules: Sequence[Schedule] = ALL, step_limit: int = 200_000,
) -> PtxVerdict:  # fmt: skip
    """Run a body on these arrays, which are written in place; on 1 KiB of zeros where there are none."""
    arrays = arrays or (np.zeros(256, np.uint32),)
    program = assemble(module(body, threads, len(arrays)), shared)
    memories = [
        DeviceMemory(name=f"array {i}", content=array.reshape(-1).view(np.uint8)) for i, array in enumerate(arrays)
    ]
    arguments: list[Argument] = [Pointer(i) for i in range(len(arrays))]
    return judge(program, arguments, memories, grid, schedules, step_limit=step_limit)


def rules(found: PtxVerdict) -> set[str]:
    """Codes of what was found."""
    return {finding.rule for finding in found.findings}
