"""The diagnosis of a compiled launch: whether it can be launched, its spills, the instructions it lost, known hazards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ...specs.gpus import REGISTERS_PER_THREAD, Architecture, Gpu
from .compilation import Compilation
from .hazards import Hazard, Pattern, Toolchain, hazards
from .plan import Piece, Subject
from .tasks import Named

HEAVY_SPILL = 128
"""Bytes of stack per thread, spills included, that are too many: 32 registers that go to memory and back."""
PASSED_OVER = ("OutOfResources", "CompileTimeAssertionFailure", "PTXASError")
"""Errors after which Triton's autotuner takes another configuration."""
LARGEST_GRID = (2**31 - 1, 65535, 65535)
"""Programs along each axis that a launch may have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Diagnostic:
    """One launch on one GPU.

    problems: why it cannot be launched. misassembled: the assembler's error, "" for none; the launch would run, and compute
    something else. warnings: why it is slow without need. hazards: known ones that it meets. passed_over: the autotuner that is
    offered this configuration tries it, finds that it cannot be launched, and takes another.
    """

    gpu: Gpu
    piece: Piece
    launch: Named
    binary: Compilation
    problems: tuple[str, ...]
    warnings: tuple[str, ...]
    hazards: tuple[Hazard, ...]
    passed_over: bool = False

    @property
    def misassembled(self) -> str:
        return self.binary.misassembled

    @property
    def outcome(self) -> str:
        return _outcome(self.binary)

    @property
    def failed(self) -> bool:
        """Whether it must not be launched."""
        return bool(self.misassembled or (self.problems and not self.passed_over))

    @property
    def family(self) -> str:
        """The fastest tensor-core instructions in the code, "" for none."""
        return self.gpu.arch.family(self.binary.tensor_core)

    def to_json(self) -> dict[str, Any]:
        subject = self.piece.subject
        return {
            "gpu": self.gpu.slug, "arch": self.gpu.arch.name, "kernel": subject.kernel, "rule": subject.rule,
            "dtype": subject.dtype, "K": subject.K, "V": subject.V, "config": self.piece.config, "why": self.piece.why,
            "launch": self.launch.kernel, "choice": self.launch.choice,
            "num_warps": self.launch.num_warps, "num_stages": self.launch.num_stages,
            "grid": list(self.launch.grid), "family": self.family, **self.binary.to_json(), "outcome": self.outcome,
            "traits": sorted({*self.launch.traits, *self.binary.traits}),
            "problems": list(self.problems), "passed_over": self.passed_over, "warnings": list(self.warnings),
            "hazards": [hazard.id for hazard in self.hazards],
        }  # fmt: skip


def judge(
    gpu: Gpu, compiled: Iterable[tuple[Piece, Named, Compilation]], tools: Mapping[str, Toolchain]
) -> list[Diagnostic]:
    """Diagnostics of every launch for one GPU. tools: by architecture."""
    rows = list(compiled)
    usual: dict[tuple[Subject, str], str] = {}
    for piece, launch, binary in rows:
        if piece.why in ("default", "offered") and binary.outcome == "compiled":
            ranks = [*gpu.arch.families, ""]
            at, name = (piece.subject, launch.kernel), gpu.arch.family(binary.tensor_core)
            usual[at] = min(usual.get(at, ""), name, key=ranks.index)
    found = [
        Diagnostic(
            gpu=gpu,
            piece=piece,
            launch=launch,
            binary=binary,
            problems=tuple(_problems(launch, binary, gpu.arch)),
            warnings=tuple(_slow(launch, binary, gpu.arch, usual.get((piece.subject, launch.kernel), ""))),
            hazards=_met(launch, binary, gpu.arch, tools[gpu.arch.name]),
        )
        for piece, launch, binary in rows
    ]
    fit = {(one.piece, one.launch.kernel) for one in found if one.launch.choice and not one.problems}
    return [
        replace(one, passed_over=bool(one.problems) and _skipped(one) and (one.piece, one.launch.kernel) in fit)
        for one in found
    ]


def _skipped(diagnostic: Diagnostic) -> bool:
    """Whether it is a configuration among others that fails in a way for which Triton's autotuner passes over one."""
    words, detail = diagnostic.launch.choice, diagnostic.binary.detail
    ended = diagnostic.binary.outcome
    return bool(words) and (ended == "compiled" or (ended == "compile" and detail.startswith(PASSED_OVER)))


def _problems(launch: Named, binary: Compilation, arch: Architecture) -> Iterable[str]:
    for axis, (programs, most) in enumerate(zip(launch.grid, LARGEST_GRID, strict=False)):
        if programs > most:
            yield f"the largest call has {programs} programs along axis {axis}, at most {most} can be launched"
    if binary.outcome != "compiled":
        yield f"{_outcome(binary)}: {binary.detail}"
        return
    threads = launch.num_warps * arch.warp
    if threads > 1024:
        yield f"{threads} threads per program, at most 1024 can be launched"
    if binary.shared > arch.shared_per_block:
        yield f"{binary.shared} bytes of shared memory per program, {arch.name} has {arch.shared_per_block}"
    registers = arch.registers_of_program(binary.registers, launch.num_warps)
    if registers > arch.registers_per_block:
        yield f"{registers} registers per program, {arch.name} has {arch.registers_per_block}"


def _outcome(binary: Compilation) -> str:
    """In the words of a report, where a record says "compile" of one that the compiler refused."""
    return "refused" if binary.outcome == "compile" else binary.outcome


def _slow(launch: Named, binary: Compilation, arch: Architecture, usual: str) -> Iterable[str]:
    if binary.outcome != "compiled":
        return
    ranks, name = [*arch.families, ""], arch.family(binary.tensor_core)
    if ranks.index(name) > ranks.index(usual):
        others = "those of another configuration" if launch.choice else "the default's"
        yield (
            f"with {launch.num_warps} warps and these tiles its products run on {name or 'plain multiply-adds'}, "
            f"with {others} on {usual}"
        )
    # On AMD's, accumulation registers are counted with the others, and the assembler always takes all there are.
    most = min(REGISTERS_PER_THREAD, arch.registers_per_block // (launch.num_warps * arch.warp))
    if arch.backend == "cuda" and binary.stack >= HEAVY_SPILL and 2 * binary.registers <= most:
        yield (
            f"spills {binary.stack} bytes per thread with {binary.registers} of the {most} registers that it may have: the "
            "assembler settled for too few (the launch option maxnreg sets them)"
        )


def _met(launch: Named, binary: Compilation, arch: Architecture, tools: Toolchain) -> tuple[Hazard, ...]:
    if binary.outcome != "compiled":
        return ()
    pattern = Pattern(
        arch=arch.name,
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
        family=arch.family(binary.tensor_core),
        traits=frozenset((*launch.traits, *binary.traits)),
        dots=launch.dots,
        constants=launch.constants,
    )
    return tuple(hazard for hazard in hazards() if hazard.meets(pattern, tools))
