"""Compile pieces for GPUs, each program once for each architecture, and say what was found."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from itertools import zip_longest

from ...specs.gpus import Gpu
from .findings import Finding, judge
from .hazards import Toolchain
from .plan import Piece, Subject
from .pool import Job, Store, compiled, named, processes
from .work import Compiled, Named, ptxas_version


@dataclass(slots=True, kw_only=True)
class Progress:
    """Told how a run goes. total: tasks of the phase that begins."""

    begin: Callable[[str, int], object] = field(default=lambda phase, total: None)
    step: Callable[[str], object] = field(default=lambda text: None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a run came to. cached: programs that were known. left: programs that an interruption did not reach.

    tools: versions of the compilers, by architecture.
    """

    findings: Sequence[Finding]
    tools: Mapping[str, Toolchain]
    compiled: int
    cached: int
    left: int


def run(
    pieces: Mapping[Gpu, Sequence[Piece]], store: Store, jobs: int, *, fresh: bool, progress: Progress | None = None
) -> Run:
    """Findings on every launch of these pieces. An interruption ends it early; what was compiled is kept and told.

    Raises OSError for a full disk or a missing tool, KeyboardInterrupt before anything could be compiled.
    """
    progress = progress or Progress()
    triton = version("triton")
    with processes(jobs) as pool:
        distinct = list(dict.fromkeys(piece for several in pieces.values() for piece in several))
        progress.begin("recording", len(distinct))
        launches = named(pool, distinct, progress.step)
        tools = {
            target.arch.name: Toolchain(
                triton=triton, ptxas=pool.schedule(ptxas_version, args=(target.arch.target,)).result()
            )
            for target in pieces
        }
        work = {target: list(_jobs(target, several, launches)) for target, several in pieces.items()}
        # GPUs in turn, so that a run that is cut short has seen them all.
        waiting = {
            job.key(triton): job for several in zip_longest(*work.values()) for job in several if job is not None
        }
        known: dict[str, Compiled] = {}
        if not fresh:
            known = {key: found for key in waiting if (found := store.get(key)) is not None}
        cached = len(known)
        missing = {key: job for key, job in waiting.items() if key not in known}
        progress.begin("compiling", len(missing))
        # Interrupted, what is known is told, and the rest is counted as left.
        with suppress(KeyboardInterrupt):
            known.update(compiled(pool, missing, store, progress.step))
    findings = [
        finding
        for target, each in work.items()
        for finding in judge(
            target,
            [(job.piece, job.launch, known[job.key(triton)]) for job in each if job.key(triton) in known],
            tools,
        )
    ]
    return Run(
        findings=findings, tools=tools, compiled=len(known) - cached, cached=cached, left=len(waiting) - len(known)
    )


def _jobs(target: Gpu, pieces: Sequence[Piece], launches: Mapping[Piece, Sequence[Named]]) -> Iterator[Job]:
    """Every launch of every piece, but of one subject the same program only once: configurations share most stages."""
    seen: set[tuple[Subject, str]] = set()
    for piece in pieces:
        for launch in launches[piece]:
            if (piece.subject, launch.source) not in seen:
                seen.add((piece.subject, launch.source))
                yield Job(piece=piece, launch=launch, target=target.arch.target)
