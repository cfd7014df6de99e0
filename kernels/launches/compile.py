"""Compile launches for a GPU that need not be present, and read their resources off the binary."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import triton
from triton import knobs
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.runtime.errors import OutOfResources
from triton.runtime.jit import JITFunction

_POINTERS = {
    torch.float32: "*fp32",
    torch.bfloat16: "*bf16",
    torch.float16: "*fp16",
    torch.float64: "*fp64",
    torch.int64: "*i64",
    torch.int32: "*i32",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """One recorded launch: the kernel, its arguments by name, its grid and its launch options."""

    kernel: JITFunction
    arguments: dict[str, Any]
    grid: tuple[int, ...]
    options: dict[str, Any]

    @property
    def name(self) -> str:
        return self.kernel.__name__

    def source(self) -> ASTSource:
        """The kernel specialised as Triton would specialise this launch: None, 1 and multiples of 16 are known, unless the
        kernel says that they are not to be."""
        signature, constants, attributes = {}, {}, {}
        for index, parameter in enumerate(self.kernel.params):
            value = self.arguments[parameter.name]
            free = parameter.do_not_specialize
            aligned = not (free or parameter.do_not_specialize_on_alignment)
            if parameter.is_constexpr or value is None or (isinstance(value, int) and value == 1 and not free):
                signature[parameter.name] = "constexpr"
                constants[(index,)] = value
            elif isinstance(value, torch.Tensor):
                signature[parameter.name] = _POINTERS[value.dtype]
                if aligned:
                    attributes[(index,)] = [["tt.divisibility", 16]]
            elif isinstance(value, int):
                signature[parameter.name] = "i32" if -(2**31) <= value < 2**31 else "i64"
                if aligned and value % 16 == 0:
                    attributes[(index,)] = [["tt.divisibility", 16]]
            else:
                signature[parameter.name] = "fp32"
        return ASTSource(self.kernel, signature, constants, attributes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binary:
    """The resources of a compiled launch, per program and per thread.

    shared: bytes of shared memory. registers: per thread. stack: bytes of local memory per thread, spills included.
    tensor_core: number of tensor-core instructions by family, e.g. {"wgmma": 24}; empty where plain FMAs do the products.
    code: the machine code, equal for configurations that are the same program. assembly: the text it was made from.
    """

    shared: int
    registers: int
    stack: int
    tensor_core: dict[str, int]
    code: bytes
    assembly: str


TENSOR_MEMORY = 512
"""Columns of tensor memory of a multiprocessor, on GPUs that have any (sm_100, sm_103)."""


@contextmanager
def recording() -> Iterator[list[Launch]]:
    """Record launches instead of making them. Raises RuntimeError under TRITON_INTERPRET, where nothing compiles."""
    if knobs.runtime.interpret:
        raise RuntimeError(
            "kernels were imported for Triton's interpreter; compile in a process without TRITON_INTERPRET"
        )
    launches: list[Launch] = []
    original = JITFunction.run

    def run(self: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:
        names = {parameter.name for parameter in self.params}
        arguments = dict(zip((parameter.name for parameter in self.params), args, strict=False))
        arguments |= {name: value for name, value in kwargs.items() if name in names}
        options = {name: value for name, value in kwargs.items() if name not in names}
        launches.append(Launch(kernel=self, arguments=arguments, grid=tuple(grid), options=options))

    JITFunction.run = run  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield launches
    finally:
        JITFunction.run = original


def record(call: Callable[[], object]) -> list[Launch]:
    """The launches that `call` makes; give it tensors on the `meta` device and nothing is computed."""
    with recording() as launches:
        call()
    return launches


def compile_launch(launch: Launch, target: GPUTarget) -> Binary:
    """Compile one launch. Raises Triton's own error when the target refuses it, or would refuse to launch it."""
    compiled = triton.compile(launch.source(), target=target, options=launch.options)
    shared = compiled.metadata.shared
    # Of a kernel that takes more, the compiler leaves a trap and nothing else.
    tensor_memory = getattr(compiled.metadata, "tmem_size", None) or 0
    if tensor_memory > TENSOR_MEMORY:
        raise OutOfResources(tensor_memory, TENSOR_MEMORY, "tensor memory")
    if target.backend == "hip":
        assembly, code = compiled.asm["amdgcn"], compiled.asm["hsaco"]
        registers, stack = (
            int(_only(rf"\.{name}:\s+(\d+)", assembly)) for name in ("vgpr_count", "private_segment_fixed_size")
        )
    else:
        assembly, code = compiled.asm["ptx"], compiled.asm["cubin"]
        usage = _resource_usage(code)
        registers, stack = (int(_only(rf"{name}:(\d+)", usage)) for name in ("REG", "STACK"))
    families = re.findall(r"\b(wgmma(?=\.mma)|tcgen05(?=\.mma)|mma(?=\.sync)|v_mfma|v_wmma)", assembly)
    return Binary(
        shared=shared,
        registers=registers,
        stack=stack,
        tensor_core={family: families.count(family) for family in sorted(set(families))},
        code=code,
        assembly=assembly,
    )


def _only(pattern: str, text: str) -> str:
    """The group of the first match; an assembler that reports no such figure is a fault of ours."""
    match = re.search(pattern, text)
    assert match is not None, f"no {pattern} in the assembler's report"
    return match.group(1)


def _resource_usage(cubin: bytes) -> str:
    """The report of cuobjdump, which comes with Triton, on a binary."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout
