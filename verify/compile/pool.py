"""Compile many launches in processes that may crash or hang, each once, whatever was compiled by an earlier run left out."""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from pebble import ProcessExpired, ProcessPool

from ...results.kept import Kept
from ..interruption import heed
from . import work
from .plan import Piece
from .work import Compiled, Named, Target

COMPILE_SECONDS = 300.0
"""After which a compilation counts as hanging."""
_TRIES = 2
"""A process that dies may have been the victim of another's hunger for memory; a launch is to blame the second time."""

OnStep = Callable[[str], object]


class Store(Kept[Compiled]):
    """Compilations under a folder."""

    __slots__ = ()
    kind, name, again, schema = Compiled, "compiled", "compiling again", 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One launch of a piece, to be compiled for a target."""

    piece: Piece
    launch: Named
    target: Target

    def key(self, triton: str) -> str:
        """Name of the result: equal for launches that are one program, whichever call makes them."""
        return hashlib.sha256("\0".join((triton, self.launch.source, repr(self.target))).encode()).hexdigest()


@contextmanager
def processes(jobs: int) -> Iterator[ProcessPool]:
    """Compiling processes, started with the first task and stopped at the end."""
    before = dict(os.environ)
    os.environ.update(work.ENVIRONMENT)
    pool = ProcessPool(
        max_workers=jobs,
        initializer=work.start,
        initargs=(os.getpid(),),
        context=multiprocessing.get_context("spawn"),
    )
    try:
        yield pool
    finally:
        pool.stop()
        pool.join()
        os.environ.clear()
        os.environ.update(before)


def named(pool: ProcessPool, pieces: Sequence[Piece], on_step: OnStep = lambda text: None) -> dict[Piece, list[Named]]:
    """The launches of every piece. Raises RuntimeError where they cannot even be recorded."""
    found: dict[Piece, list[Named]] = {}
    for piece, result in _run(pool, work.name, {piece: (piece,) for piece in pieces}):
        if not isinstance(result, list):
            raise RuntimeError(f"recording the launches of {piece.subject} {piece.config} ended in a {result.outcome}")
        found[piece] = result
        on_step(str(piece.subject))
    return {piece: found[piece] for piece in pieces}


def compiled(
    pool: ProcessPool, jobs: Mapping[str, Job], store: Store, on_step: OnStep = lambda text: None
) -> Iterator[tuple[str, Compiled]]:
    """(key, result) of every job, as they end; each is kept before it is told."""
    tasks = {key: (job.piece, job.launch.index, job.target) for key, job in jobs.items()}
    for key, result in _run(pool, work.compile_one, tasks):
        job = jobs[key]
        # A crash or a timeout may be this machine's fault: the next run tries again.
        if result.outcome in ("compiled", "refused"):
            store.put(key, result)
        on_step(f"{job.launch.kernel} {job.piece.subject} {job.target[1]}")
        yield key, result


def _run(
    pool: ProcessPool, task: Callable[..., Any], tasks: Mapping[Any, tuple[Any, ...]]
) -> Iterator[tuple[Any, Any]]:
    """(name, result) of every task, as they end; a failure of the process is a `Compiled` that says so."""
    tries = dict.fromkeys(tasks, 1)
    futures: dict[Any, Any] = {
        pool.schedule(task, args=arguments, timeout=COMPILE_SECONDS): name for name, arguments in tasks.items()
    }
    while futures:
        # The timeout is how long an interruption may wait.
        heed()
        for future in wait(futures, timeout=0.5, return_when=FIRST_COMPLETED).done:
            name = futures.pop(future)
            try:
                yield name, future.result()
            except TimeoutError:
                detail = f"no end after {COMPILE_SECONDS:g} s"
                yield name, Compiled(outcome="timeout", seconds=COMPILE_SECONDS, detail=detail)
            except ProcessExpired as error:
                if tries[name] < _TRIES:
                    tries[name] += 1
                    futures[pool.schedule(task, args=tasks[name], timeout=COMPILE_SECONDS)] = name
                else:
                    detail = f"the compiling process died with code {error.exitcode}, twice"
                    yield name, Compiled(outcome="crash", seconds=0.0, detail=detail)
