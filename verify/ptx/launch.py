"""Judge launches of Triton kernels as compiled: one that was recorded, or all that a call makes."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch

from ...kernels.launches.compile import Launch
from .assembly.assemble import assemble
from .assembly.program import Program
from .assembly.text import parse
from .device import DeviceLaunch, simulated
from .digest import program_digest
from .errors import PtxError, UnknownInstruction
from .finding import Finding
from .machine import Argument, DeviceMemory, Pointer
from .schedules import QUICK, Schedule
from .static.machine_code import unwritten_registers
from .static.text import lint
from .verdict import PtxVerdict, judge, merged


def run_launch(launch: Launch, arch: int = 90, schedules: Sequence[Schedule] = QUICK) -> PtxVerdict:
    """Compile a recorded launch and run it on its own tensors, which must lie on the CPU and hold its inputs.

    Tensors are written as the first schedule leaves them. An instruction that the engine does not know is the finding
    `unsupported`. Raises Triton's own error when the architecture refuses the kernel, NoCompiler, MemoryError, and ValueError for
    tensors that lie elsewhere.
    """

    def call() -> None:
        launch.kernel.run(grid=launch.grid, warmup=False, **launch.arguments, **launch.options)

    verdicts = judge_call(call, arch, schedules)
    assert len(verdicts) == 1, "one launch gives one verdict"
    return verdicts[0]


def judge_call(
    call: Callable[[], object], arch: int = 90, schedules: Sequence[Schedule] = QUICK,
    each: Callable[[PtxVerdict], None] | None = None,
) -> list[PtxVerdict]:  # fmt: skip
    """Verdicts of all the launches that a call makes on CPU tensors, in order; `each` is called after every one of them.

    The call goes on with the results of the first schedule. Raises the errors of `run_launch` and those of the call.
    """
    with judging(arch, schedules, each) as verdicts:
        call()
    return verdicts


@contextmanager
def judging(
    arch: int = 90, schedules: Sequence[Schedule] = QUICK, each: Callable[[PtxVerdict], None] | None = None,
    passed: set[str] | None = None,
) -> Iterator[list[PtxVerdict]]:  # fmt: skip
    """Within, every launch on CPU tensors is compiled, run and judged; the list holds a verdict for each so far.

    passed: digests of programs that passed under these schedules, and are run under the first alone. It is added to, so that
    calls that share programs on inputs of one kind share the work.
    """
    verdicts: list[PtxVerdict] = []
    known: set[str] = set() if passed is None else passed

    def handle(launch: DeviceLaunch) -> None:
        name = _static(launch.ptx)[1]
        verdict = _judged(launch, schedules[:1] if passed is not None and name in known else schedules)
        if not (verdict.faults or verdict.differences):
            known.add(name)
        verdicts.append(verdict)
        if each is not None:
            each(verdict)

    with simulated(arch, handle):
        yield verdicts


@lru_cache(maxsize=64)
def _assembled(ptx: str, shared: int) -> Program:
    """Kept, since one program is launched again and again."""
    return assemble(parse(ptx), shared)


@lru_cache(maxsize=256)
def _static(ptx: str) -> tuple[tuple[Finding, ...], str]:
    """The findings that the text alone shows, and its digest."""
    return tuple(lint(ptx)), program_digest(ptx)


def _judged(launch: DeviceLaunch, schedules: Sequence[Schedule]) -> PtxVerdict:
    try:
        program = _assembled(launch.ptx, launch.kernel.metadata.shared)
        arguments, memories = bind(launch, program)
    except UnknownInstruction as error:
        finding = Finding(rule="unsupported", kernel=launch.name, instruction=error.opcode, detail=str(error))
        return PtxVerdict(kernel=launch.name, findings=[finding])
    if 0 in launch.grid:
        return PtxVerdict(kernel=launch.name)
    verdict = judge(program, arguments, memories, launch.grid, schedules)
    static, name = _static(launch.ptx)
    assembled = unwritten_registers(launch.kernel.asm["cubin"], launch.name)
    return replace(verdict, findings=merged([*verdict.findings, *static, *assembled]), program=name)


def bind(launch: DeviceLaunch, program: Program) -> tuple[list[Argument], list[DeviceMemory]]:
    """Arguments and memories of a launch, as the engine takes them. Memories are the storages of its tensors themselves."""
    arguments: list[Argument] = []
    memories: list[DeviceMemory] = []
    known: dict[int, int] = {}
    descriptors = itertools.count()

    def memory(name: str, tensor: torch.Tensor) -> Pointer:
        if tensor.device.type != "cpu":
            raise ValueError(f"{launch.name}: {name} is on {tensor.device}; accepted: CPU tensors")
        storage = tensor.detach().untyped_storage()
        if storage.nbytes() == 0:
            memories.append(DeviceMemory(name=name, content=np.zeros(0, np.uint8)))
            return Pointer(len(memories) - 1)
        at = storage.data_ptr()
        if at not in known:
            content = np.ctypeslib.as_array((ctypes.c_uint8 * storage.nbytes()).from_address(at))
            memories.append(DeviceMemory(name=name, content=content))
            known[at] = len(memories) - 1
        return Pointer(known[at], tensor.data_ptr() - at)

    def add(name: str, kind: Any, value: Any) -> None:
        if isinstance(kind, tuple):
            for index, (inner, part) in enumerate(zip(kind, value, strict=True)):
                add(f"{name}[{index}]", inner, part)
        elif kind == "constexpr":
            return
        elif isinstance(kind, str) and kind.startswith("tensordesc"):
            from .tensor_maps import descriptor_arguments

            arguments.extend(
                descriptor_arguments(launch, kind, value, lambda tensor: memory(name, tensor), next(descriptors))
            )
        elif hasattr(value, "data_ptr"):
            arguments.append(
                memory(name, getattr(value, "base", value) if not isinstance(value, torch.Tensor) else value)
            )
        else:
            arguments.append(float(value) if str(kind).lstrip("u").startswith(("fp", "bf", "f")) else int(value))

    signature = launch.kernel.src.signature
    for (name, kind), value in zip(signature.items(), launch.arguments, strict=True):
        add(str(name), kind, value)
    metadata, programs = launch.kernel.metadata, int(np.prod(launch.grid))
    # Two pointers to scratch memory follow, which may be null.
    for name in ("global_scratch", "profile_scratch"):
        if len(arguments) < len(program.kernel.parameters):
            size = (getattr(metadata, f"{name}_size", 0) or 0) * programs
            if size:
                memories.append(DeviceMemory(name=name, content=np.zeros(size + 256, np.uint8), checked=False))
            arguments.append(Pointer(len(memories) - 1) if size else 0)
    if len(arguments) != len(program.kernel.parameters):
        raise PtxError(
            f"{launch.name} has {len(program.kernel.parameters)} parameters as compiled, "
            f"and {len(arguments)} arguments were found"
        )
    return arguments, memories
