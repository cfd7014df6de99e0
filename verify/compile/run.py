"""Compile pieces for GPUs, each program once for each architecture, and report the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import zip_longest
from typing import TypeVar

from ...specs.gpus import Gpu
from ..process.pool import Failure, Workers
from ..process.progress import Progress
from . import fake_device, process
from .compilation import Cache, Compilation
from .diagnostics import Diagnostic, judge
from .foreign import Asked, pieces_of
from .hazards import Toolchain
from .plan import Piece, Subject
from .process import COMPILE_SECONDS, CompileTarget
from .programs import cache_key, compile_each, ptxas_version, triton_version
from .tasks import Named, compile_one, name

A = TypeVar("A")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One launch of a piece, to be compiled for a target."""

    piece: Piece
    launch: Named
    target: CompileTarget

    @property
    def key(self) -> str:
        """The key of its compilation, equal for launches that are one program, whichever call makes them."""
        return cache_key(self.launch.program, self.target)

    def __str__(self) -> str:
        return f"{self.launch.kernel} {self.piece.subject} {self.target[1]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class CompileRun:
    """The results of a run. cached: programs that were known. left: programs that an interruption did not reach.

    tools: versions of the compilers, by architecture.
    """

    diagnostics: Sequence[Diagnostic]
    tools: Mapping[str, Toolchain]
    compiled: int
    cached: int
    left: int


def run(
    pieces: Mapping[Gpu, Sequence[Piece]],
    store: Cache,
    jobs: int,
    *,
    fresh: bool,
    progress: Progress | None = None,
    start: Callable[[], None] = process.start,
) -> CompileRun:
    """Diagnostics of every launch of these pieces. An interruption ends it early, with the compilations until then.

    start: prepares a process that compiles. Raises OSError for a full disk or a missing tool, ValueError for somebody's call
    whose launches cannot be noted, KeyboardInterrupt before anything could be compiled.
    """
    progress = progress or Progress()
    with Workers(jobs, start) as workers:
        distinct = list(dict.fromkeys(piece for several in pieces.values() for piece in several))
        progress.begin("recording", len(distinct))
        launches = _each(
            workers, name, distinct, "recording the launches of", lambda piece: progress.step(str(piece.subject))
        )
        ptxas = _each(workers, ptxas_version, [target.arch.target for target in pieces], "asking for the assembler of")
        tools = {
            target.arch.name: Toolchain(triton=triton_version(), ptxas=ptxas[target.arch.target]) for target in pieces
        }
        tasks = {target: list(_jobs(target, several, launches)) for target, several in pieces.items()}
        # GPUs in turn, so that a run that is cut short has seen them all.
        waiting = {job.key: job for several in zip_longest(*tasks.values()) for job in several if job is not None}
        known: dict[str, Compilation] = {}
        if not fresh:
            known = {key: found for key in waiting if (found := store.get(key)) is not None}
        cached = len(known)
        missing = {key: job for key, job in waiting.items() if key not in known}
        progress.begin("compiling", len(missing))
        # Interrupted, it reports the known programs and counts the rest as left.
        with suppress(KeyboardInterrupt):
            arguments = {key: (job.piece, job.launch.index, job.target) for key, job in missing.items()}
            for key, outcome in compile_each(compile_one, arguments, workers, store):
                known[key] = outcome
                progress.step(str(missing[key]))
    diagnostics = [
        diagnostic
        for target, each in tasks.items()
        for diagnostic in judge(
            target,
            [(job.piece, job.launch, known[job.key]) for job in each if job.key in known],
            tools,
        )
    ]
    return CompileRun(
        diagnostics=diagnostics,
        tools=tools,
        compiled=len(known) - cached,
        cached=cached,
        left=len(waiting) - len(known),
    )


def run_target(
    target: str,
    gpus: Sequence[Gpu],
    asked: Asked,
    store: Cache,
    jobs: int,
    *,
    fresh: bool,
    progress: Progress | None = None,
) -> CompileRun:
    """The same of somebody else's function, called as a process with each GPU would.

    Raises ValueError in one line for a target that is not understood, or whose call cannot be made, besides.
    """
    runs: list[CompileRun] = []
    for gpu in gpus:
        start = partial(fake_device.install, fake_device.facts(gpu))
        with Workers(1, start) as workers:
            (pieces,) = _each(workers, partial(pieces_of, asked=asked), [target], "importing").values()
        runs.append(run({gpu: pieces}, store, jobs, fresh=fresh, progress=progress, start=start))
        if runs[-1].left:
            break
    return CompileRun(
        diagnostics=[diagnostic for one in runs for diagnostic in one.diagnostics],
        tools={name: tools for one in runs for name, tools in one.tools.items()},
        compiled=sum(one.compiled for one in runs),
        cached=sum(one.cached for one in runs),
        left=sum(one.left for one in runs),
    )


def _jobs(target: Gpu, pieces: Sequence[Piece], launches: Mapping[Piece, Sequence[Named]]) -> Iterator[Job]:
    """Every launch of every piece, but of one subject the same program only once: configurations share most stages."""
    seen: set[tuple[Subject, str]] = set()
    for piece in pieces:
        for launch in launches[piece]:
            if (piece.subject, launch.program) not in seen:
                seen.add((piece.subject, launch.program))
                yield Job(piece=piece, launch=launch, target=target.arch.target)


def _each(
    workers: Workers,
    task: Callable[[A], T],
    arguments: Sequence[A],
    doing: str,
    on_end: Callable[[A], object] = lambda argument: None,
) -> dict[A, T]:
    """Results by argument. Raises ValueError for a process that died or hung."""
    found: dict[A, T] = {}
    for index, result in workers.run(task, [(argument,) for argument in arguments], COMPILE_SECONDS):
        if isinstance(result, Failure):
            raise ValueError(f"{doing} {arguments[index]} ended in a {result.outcome}")
        found[arguments[index]] = result
        on_end(arguments[index])
    return found
