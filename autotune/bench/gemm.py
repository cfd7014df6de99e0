"""Matrix products of recorded landscapes: their problems, configurations and programs, and the work of a program per step."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...results.schema.strict import TableError
from ...specs.gpus import Architecture
from ...verify.compile.compilation import Cache, Compilation
from ...verify.compile.process import CompileTarget, start
from ...verify.compile.programs import compile_each, triton_version
from ...verify.process.pool import Workers
from ...verify.process.progress import Progress
from ..model.op_counts import OpCounts

BAND = 8
SIZE = 2
"""Bytes of an element: problems in fp16 and bf16, which compile alike, are judged."""
DTYPES = ("float16", "bfloat16")
_CONFIG = re.compile(r"BM=(\d+)_BK=(\d+)_BN=(\d+)_numstages=(\d+)_numwarps=(\d+)")
_SIDES = {16, 32, 64, 128, 256}
_MOST = 1 << 31


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmConfig:
    """A tile of C [BM, BN], the step BK over K, pipeline depth and warps."""

    BM: int
    BN: int
    BK: int
    num_stages: int
    num_warps: int

    @classmethod
    def parse(cls, text: str) -> GemmConfig | None:
        """A configuration as recorded; None for one that is not the template's, such as a library's product.

        Raises ValueError for sizes that no program has.
        """
        match = _CONFIG.fullmatch(text)
        if match is None:
            return None
        BM, BK, BN, stages, warps = map(int, match.groups())
        if not ({BM, BN} <= _SIDES and BK in _SIDES - {256} and 1 <= stages <= 16 and warps in (1, 2, 4, 8, 16)):
            raise ValueError(f"configuration {text[:80]!r} is not a program's")
        return cls(BM=BM, BN=BN, BK=BK, num_stages=stages, num_warps=warps)


@dataclass(frozen=True, slots=True, kw_only=True)
class GemmProblem:
    """C [M, N] = A [M, K] B [K, N]. strides: (of A's rows, A's columns, B's rows, B's columns), in elements."""

    M: int
    N: int
    K: int
    dtype: str
    strides: tuple[int, int, int, int]

    @classmethod
    def parse(cls, text: str) -> GemmProblem:
        """A problem as recorded: M|K|N|type of A|type of B|strides of A|strides of B|... Raises ValueError for another text."""
        words = text.split("|")
        if len(words) < 9:
            raise ValueError(f"problem {text[:80]!r} has fewer than nine fields")
        M, K, N, *strides = (int(word) for word in (*words[:3], *words[5:9]))
        if not all(0 < size < _MOST for size in (M, K, N)) or not all(0 <= stride < _MOST for stride in strides):
            raise ValueError(f"problem {text[:80]!r} has sizes that no matrix has")
        dtype = words[3] if words[3] == words[4] else "mixed"
        return cls(M=M, N=N, K=K, dtype=dtype, strides=tuple(strides))  # pyright: ignore[reportArgumentType]

    @property
    def judged(self) -> bool:
        """Whether the template is meant for it: 16 bits, whole steps, no side less than the largest tile's."""
        plain = self.dtype in DTYPES and min(self.M, self.N, self.K) >= 128 and self.K % 128 == 0
        return plain and all(1 in pair for pair in (self.strides[:2], self.strides[2:]))


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class GemmProgram:
    """One specialisation of the template: a configuration, and the facts about strides that the compiler is told.

    strides: 1 where it is 1, 16 where it is a multiple of that, else 0; aligned: whether N is a multiple of 16.
    """

    config: tuple[int, int, int, int, int]
    strides: tuple[int, int, int, int]
    aligned: bool

    @classmethod
    def of(cls, problem: GemmProblem, config: GemmConfig) -> GemmProgram:
        kinds = tuple(1 if stride == 1 else 0 if stride % 16 else 16 for stride in problem.strides)
        sizes = (config.BM, config.BN, config.BK, config.num_stages, config.num_warps)
        return cls(config=sizes, strides=kinds, aligned=problem.N % 16 == 0)  # pyright: ignore[reportArgumentType]

    def name(self, target: CompileTarget) -> str:
        """Its key in the cache: all that its binary depends on."""
        template = Path(__file__).with_name("template.py").read_text(encoding="utf-8")
        return hashlib.sha256("\0".join((template, triton_version(), repr(self), repr(target))).encode()).hexdigest()


def compile_programs(
    programs: Sequence[GemmProgram], arch: Architecture, cache: Cache, *, jobs: int, progress: Progress
) -> dict[GemmProgram, Compilation]:
    """The outcome of compiling every program, from the cache where it is known. Raises TableError where a process dies of one."""
    names = {program: program.name(arch.target) for program in programs}
    found = {program: known for program, name in names.items() if (known := cache.get(name))}
    left = {names[program]: program for program in sorted(names.keys() - found.keys())}
    progress.begin("compiling", len(left))
    with Workers(jobs, start) as workers:
        arguments = {name: (program, arch.target) for name, program in left.items()}
        for name, outcome in compile_each(compile_program, arguments, workers, cache):
            if not outcome.final:
                raise TableError(f"compiling {left[name]} did not finish: {outcome.outcome}")
            found[left[name]] = outcome
            progress.step(str(left[name].config))
    return found


def compile_program(program: GemmProgram, target: CompileTarget) -> Compilation:
    """Compile one program, in a process of `Workers`."""
    import torch

    from ...kernels.launches.compile import Launch
    from ...verify.compile.programs import compiled
    from .template import matmul_kernel

    BM, BN, BK, stages, warps = program.config
    matrix = torch.empty(0, dtype=torch.float16, device="meta")
    strides = [{1: 1, 16: 4096, 0: 4097}[kind] for kind in program.strides]
    arguments = dict.fromkeys("ABC", matrix) | {"M": 4096, "N": 4096 if program.aligned else 4097, "K": 4096}
    arguments |= dict(zip(("stride_am", "stride_ak", "stride_bk", "stride_bn"), strides, strict=True))
    arguments |= {"BM": BM, "BN": BN, "BK": BK, "BAND": BAND}
    options = {"num_warps": warps, "num_stages": stages}
    return compiled(Launch(kernel=matmul_kernel, arguments=arguments, grid=(1,), options=options), target)


def work(problem: GemmProblem, config: GemmConfig) -> OpCounts:
    """The work of a program per step of BK, its tile of C counted in equal parts; programs and steps, each [1], of all of it."""
    programs = -(-problem.M // config.BM) * -(-problem.N // config.BN)
    return OpCounts(
        programs=np.array([programs]),
        steps=np.array([-(-problem.K // config.BK)]),
        products=2.0 * config.BM * config.BN * config.BK,
        chain=0,
        elements=0.0,
        own=SIZE * config.BM * config.BN * config.BK / problem.K,
        shared=float(SIZE * config.BK * (config.BM + config.BN)),
        serial=True,
    )
