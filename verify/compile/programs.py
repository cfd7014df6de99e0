"""Programs for a GPU that need not be there: their names, the compilation of one, and the loop that compiles and keeps many."""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from ...kernels.launches.instructions import read as read_instructions
from ...results.files.one_line import folded
from ..process.pool import Failure, Workers
from ..ptx.digest import program_digest
from ..ptx.static.machine_code import misassembled
from .compilation import Cache, Compilation
from .overlaps import products_in_flight
from .process import COMPILE_SECONDS, CompileTarget, compile_clean
from .traits import assembly_traits

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch

OUT_OF_MEMORY = 75
"""Exit code of a process that ran out of memory, or whose assembler was killed, as the kernel does when it runs out."""
_KILLED = re.compile(r"error code (-9|137)\b")


def program_name(launch: Launch) -> str:
    """Names the program of a launch, whichever call makes it: the specialised kernel, all that it calls, and the options."""
    return _named(launch.source().hash(), repr(sorted(launch.options.items())))


def cache_key(program: str, target: CompileTarget) -> str:
    """Names the compilation of a program by the installed Triton."""
    return _named(triton_version(), program, repr(target))


@cache
def triton_version() -> str:
    """The version of the compiler; kept, since asking the installation takes milliseconds."""
    return version("triton")


def ptxas_version(target: CompileTarget) -> str | None:
    """Version of the assembler that Triton uses for an NVIDIA architecture; None for another vendor's."""
    backend, arch, _ = target
    if backend != "cuda":
        return None
    from triton.backends.nvidia.compiler import get_ptxas

    return get_ptxas(int(arch)).version


def compiled(launch: Launch, target: CompileTarget) -> Compilation:
    """Compile a launch. A refusal of the compiler is an outcome; a full disk or a missing tool raises OSError.

    Where memory ends, the process does: that says something of this machine, nothing of the launch.
    """
    started, used = time.monotonic(), _cpu()

    def spent() -> dict[str, Any]:
        return {"seconds": round(time.monotonic() - started, 3), "cpu": round(_cpu() - used, 3)}

    try:
        binary = compile_clean(launch, target)
    except OSError:
        raise
    except Exception as error:
        if isinstance(error, MemoryError) or _KILLED.search(str(error)):
            os._exit(OUT_OF_MEMORY)
        # Triton quotes the source before it says what is wrong, and ptxas adds the command that it was called by.
        said = folded(str(error).partition("Repro command")[0])[-450:]
        return Compilation(outcome="compile", **spent(), detail=f"{type(error).__name__}: {said}")
    cuda = target[0] == "cuda"
    return Compilation(
        outcome="compiled",
        **spent(),
        shared=binary.shared,
        registers=binary.registers,
        stack=binary.stack,
        threads=launch.options.get("num_warps", 4) * target[2],
        tensor_core=binary.tensor_core,
        code=hashlib.sha256(binary.code).hexdigest()[:32],
        program=program_digest(binary.assembly),
        assembler=ptxas_version(target) or "",
        hazard=products_in_flight(binary.assembly) if cuda else "",
        misassembled=misassembled(binary.code, launch.name) if cuda else "",
        traits=assembly_traits(binary.assembly),
        instructions=read_instructions(binary.code) if cuda else None,
    )


def compile_each(
    compile_one: Callable[..., Compilation],
    tasks: Mapping[str, tuple[Any, ...]],
    workers: Workers,
    store: Cache,
    *,
    timeout: float = COMPILE_SECONDS,
    deadline: float = float("inf"),
) -> Iterator[tuple[str, Compilation]]:
    """(key, compilation) of every task, as they end; each is on disk before it is told.

    compile_one: runs in the workers. tasks: its arguments, by the keys of their compilations. deadline: of time.monotonic();
    what has not begun by then is left.
    """
    keys = list(tasks)
    for index, result in workers.run(compile_one, list(tasks.values()), timeout, deadline):
        found = _failed(result, timeout) if isinstance(result, Failure) else result
        store.put(keys[index], found)
        yield keys[index], found


def _failed(failure: Failure, timeout: float) -> Compilation:
    if failure.outcome == "timeout":
        return Compilation(outcome="timeout", seconds=timeout, detail=f"no end after {timeout:g} s")
    detail = f"the compiling process died with code {failure.code}, twice"
    return Compilation(outcome="crash", seconds=0.0, detail=detail)


def _named(*words: str) -> str:
    return hashlib.sha256("\0".join(words).encode()).hexdigest()


def _cpu() -> float:
    """Processor time of this process and of those that it has waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
