"""The tasks of the compiling processes: name the launches of a call, and compile one of them for a GPU that need not be there.

Kernels are imported inside the functions: they must see a process that is not one for Triton's interpreter.
"""

from __future__ import annotations

import hashlib
import time
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ...results.files.one_line import told
from .plan import Piece
from .process import CompileTarget, compile_clean, since


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A launch as it is known before it is compiled.

    index: its place among the launches of its piece. source: digest of the kernel, specialised, with all that it calls,
    and its options. grid: programs along each axis in the largest call. traits, dots: see `traits.py`. choice: of the
    configurations that an autotuner is offered, "" where there is no choice.
    """

    kernel: str
    index: int
    source: str
    num_warps: int
    num_stages: int
    constants: dict[str, Any]
    traits: tuple[str, ...]
    dots: int
    grid: tuple[int, ...]
    choice: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledLaunch:
    """The outcome of compiling a launch for an architecture.

    detail: the compiler's words where it failed. shared: bytes per program. registers, stack (bytes, spills included): per
    thread. tensor_core: instructions by family. traits: of the assembly. code: digest of the machine code, "" for none.
    misassembled: the assembler's error in the machine code, in one line; "" where none is known.
    """

    outcome: Literal["compiled", "refused", "timeout", "crash"]
    seconds: float
    detail: str = ""
    shared: int = 0
    registers: int = 0
    stack: int = 0
    tensor_core: dict[str, int] = field(default_factory=dict)
    traits: tuple[str, ...] = ()
    code: str = ""
    misassembled: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, record: Any) -> CompiledLaunch:
        """Read `to_json` back. Raises ValueError for anything else."""
        try:
            found = cls(**{**record, "traits": tuple(record["traits"])})
            numbers = (found.seconds, found.shared, found.registers, found.stack, *found.tensor_core.values())
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(f"not a compilation: {error}") from None
        if any(type(number) not in (int, float) or number < 0 for number in numbers):
            raise ValueError("not a compilation: a figure is no number")
        if not isinstance(found.misassembled, str):
            raise ValueError("not a compilation: what the assembler did wrong is no text")
        if (found.outcome == "compiled") != bool(found.code):
            raise ValueError(f"not a compilation: outcome {found.outcome!r} with machine code {found.code!r}")
        return found


def ptxas_version(target: CompileTarget) -> str | None:
    """Version of the assembler that Triton uses for an NVIDIA architecture; None for another vendor's."""
    backend, arch, _ = target
    if backend != "cuda":
        return None
    from triton.backends.nvidia.compiler import get_ptxas

    return get_ptxas(int(arch)).version


def name(piece: Piece) -> list[Named]:
    """The launches of a piece that are different programs, in the order in which they run."""
    from .launches import choices_of, grids_of, launches_of
    from .traits import source_traits

    found: dict[str, Named] = {}
    grids, choices = grids_of(piece), choices_of(piece)
    for index, launch in enumerate(launches_of(piece)):
        if piece.stage and launch.name != f"{piece.stage}_kernel":
            continue
        digest = hashlib.sha256("\0".join((launch.source().hash(), repr(sorted(launch.options.items())))).encode())
        if digest.hexdigest() in found:
            continue
        traits, dots = source_traits(launch)
        constants = {p.name: launch.arguments[p.name] for p in launch.kernel.params if p.is_constexpr}
        found[digest.hexdigest()] = Named(
            kernel=launch.name,
            index=index,
            source=digest.hexdigest(),
            num_warps=launch.options.get("num_warps", 4),
            num_stages=launch.options.get("num_stages", 3),
            constants={key: value for key, value in constants.items() if isinstance(value, int | str)},
            traits=traits,
            dots=dots,
            grid=grids[index],
            choice=choices[index] if choices else "",
        )
    return list(found.values())


def compile_one(piece: Piece, index: int, target: CompileTarget) -> CompiledLaunch:
    """Compile one launch of a piece. A refusal of the compiler is an outcome; a full disk raises OSError."""
    from ..ptx.static.machine_code import misassembled
    from .launches import launches_of
    from .traits import assembly_traits

    launch = launches_of(piece)[index]
    started = time.monotonic()
    try:
        binary = compile_clean(launch, target)
    except OSError:
        raise
    except Exception as error:
        detail = told(error, 500)[:500]
        return CompiledLaunch(outcome="refused", seconds=since(started), detail=detail)
    return CompiledLaunch(
        outcome="compiled",
        seconds=since(started),
        shared=binary.shared,
        registers=binary.registers,
        stack=binary.stack,
        tensor_core=binary.tensor_core,
        traits=assembly_traits(binary.assembly),
        code=hashlib.sha256(binary.code).hexdigest()[:32],
        misassembled=misassembled(binary.code, launch.name) if target[0] == "cuda" else "",
    )
