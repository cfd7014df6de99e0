"""Is the safe default right as compiled? For every op, rule, element type and head dimension, and every architecture run here.

The default, served where nothing better is known, has no table entry that a gate could refuse, so it is judged by itself: each of
its programs is compiled, and its machine code searched for errors of the assembler; at the main size it is run as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from ...kernels.configs.launch_config import LaunchConfig, kernel_of
from ...results.digests.kernels import kernel_digest
from ...results.schema.default import default_config
from ...specs.gpus import Gpu, shipped
from ...verify.compile import run as compiling
from ...verify.compile.compilation import Cache
from ...verify.compile.diagnostics import Diagnostic
from ...verify.compile.plan import FIRST_STAGE, Piece, Subject
from ...verify.compile.programs import triton_version
from ...verify.process.progress import Progress
from ..gates.running import RunAnswer, RunQuestion, ask_run
from ..space.points import Family

SCHEMA = 1
OPS = ("chunk_fwd", "chunk_train", "recurrent")
RUN_DTYPE, RUN_DIM, RUN_ON = "bf16", 128, (80, 90)
"""The cells that are also run: the other programs differ in their sizes and element types."""


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedDefault:
    """The default of an op for calls of one kind on an architecture. ran: None where it was not run, or could not be.

    faults: one line each: a program that does not fit or is assembled wrongly, or a fault that running it showed.
    """

    family: Family
    arch: int
    config: str
    programs: int
    faults: tuple[str, ...]
    ran: bool | None = None
    detail: str = ""

    def to_json(self) -> dict[str, Any]:
        family = self.family
        return {
            "op": family.op, "rule": family.rule, "dtype": family.dtype, "K": family.K, "arch": f"sm_{self.arch}",
            "config": self.config, "kernel": kernel_digest(family.key(), self.config), "programs": self.programs,
            "faults": list(self.faults), "ran": self.ran, "detail": self.detail,
        }  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class DefaultsRun:
    """cells: in order. assemblers: by architecture. left: programs that an interruption did not reach."""

    cells: Sequence[JudgedDefault]
    assemblers: dict[str, str]
    left: int

    @property
    def faults(self) -> list[str]:
        return [f"sm_{cell.arch} {cell.family} {cell.config}: {fault}" for cell in self.cells for fault in cell.faults]

    def to_json(self) -> dict[str, Any]:
        return {
            "schema": SCHEMA, "triton": triton_version(), "ptxas": self.assemblers,
            "cells": [cell.to_json() for cell in self.cells],
        }  # fmt: skip


def judge_defaults(
    families: Iterable[Family], archs: Sequence[int], store: Cache, *, jobs: int, progress: Progress
) -> DefaultsRun:
    """Compile and search the defaults of these families, and run those of the main size. Raises OSError, RuntimeError."""
    some = list(families)
    targets = {arch: _target(arch) for arch in archs}
    found = compiling.run(
        {target: [_piece(family) for family in some] for target in targets.values()},
        store, jobs, fresh=False, progress=progress,
    )  # fmt: skip
    questions = [
        RunQuestion(family=family, config=LaunchConfig.parse(_config(family)), arch=arch)
        for arch, family in product(archs, some)
        if arch in RUN_ON and (family.dtype, family.K) == (RUN_DTYPE, RUN_DIM) and family.op != FIRST_STAGE
    ]
    progress.begin("running compiled code", len(questions))
    answers: dict[RunQuestion, RunAnswer] = {}
    for answer in ask_run(questions if not found.left else [], jobs):
        answers[answer.question] = answer
        progress.step(str(answer.question))
    by_question = {(question.arch, question.family): answer for question, answer in answers.items()}
    cells = [
        _cell(family, arch, list(_about(found.diagnostics, target, family)), by_question.get((arch, family)))
        for (arch, target), family in product(targets.items(), some)
    ]
    tools = {name: tool.ptxas or "" for name, tool in found.tools.items()}
    return DefaultsRun(cells=cells, assemblers=tools, left=found.left)


def families_of(rules: Sequence[str], dtypes: Sequence[str], dims: Sequence[int]) -> list[Family]:
    """Every op and the first stage, for every combination."""
    return [
        Family(op=op, rule=rule, dtype=dtype, K=size, V=size)
        for op, rule, dtype, size in product((*OPS, FIRST_STAGE), rules, dtypes, dims)
    ]


def _cell(family: Family, arch: int, diagnostics: Sequence[Diagnostic], answer: RunAnswer | None) -> JudgedDefault:
    faults = [
        f"{one.launch.kernel}: {fault}"
        for one in diagnostics
        for fault in (*one.problems, *([one.misassembled] if one.misassembled else []))
    ]
    if answer and not answer.held:
        faults.append(answer.detail)
    return JudgedDefault(
        family=family, arch=arch, config=_config(family), programs=len(diagnostics), faults=tuple(faults),
        ran=answer.held if answer else None, detail=answer.detail if answer else "",
    )  # fmt: skip


def _about(diagnostics: Iterable[Diagnostic], target: Gpu, family: Family) -> Iterable[Diagnostic]:
    subject = _piece(family).subject
    return (one for one in diagnostics if one.gpu == target and one.piece.subject == subject)


def _config(family: Family) -> str:
    return default_config(family.op, family.dtype, family.K)


def _piece(family: Family) -> Piece:
    config = _config(family)
    kernel = family.op if family.op == FIRST_STAGE else kernel_of(family.op, config)
    return Piece(
        subject=Subject(kernel=kernel, rule=family.rule, dtype=family.dtype, K=family.K, V=family.V), config=config
    )


def _target(arch: int) -> Gpu:
    """Some GPU of an architecture."""
    return next(gpu for gpu in shipped().values() if gpu.arch.name == f"sm_{arch}")
