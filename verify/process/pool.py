"""A pool of processes that may crash or hang: every task ends with a result or a failure."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future, TimeoutError
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeVar

from pebble import ProcessExpired, ProcessPool

from .limits import LATE, PATIENCE, MemoryWatch, sign_up, within
from .signals import check_interrupt, kept_from_children

T = TypeVar("T")

_WATCHED = "watched"
"""Folder of the scratch space in which processes sign up to have their memory watched."""
_TRIES = 2
"""The system may kill a process because another one used the memory, so a task is blamed the second time only."""
_TASKS = 250
"""After which a process is replaced: Triton's compiler keeps about a megabyte of every kernel that it compiled."""
_STARTS = 4
"""A process that dies before it took a task breaks the whole pool; it is then started again this often."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """The end of a task without a result: late, dead, or killed for the memory it took.

    code: of the process that died of it; negative for a signal.
    """

    outcome: Literal["timeout", "crash", "memory"]
    code: int | None = None

    def __str__(self) -> str:
        """What happened, in words."""
        if self.outcome != "crash":
            return {"timeout": "no answer in time", "memory": "more memory than it may take"}[self.outcome]
        if self.code is None:
            return "the process died"
        return f"the process {f'died of {signal.Signals(-self.code).name}' if self.code < 0 else f'ended with code {self.code}'}"


class Workers:
    """Processes of one thread each that run tasks, from the first task on. A context manager: they are stopped at the end.

    jobs: how many at most; never more than there are tasks. start: run in each first. interpret: whether kernels are for
    Triton's interpreter. memory: bytes that each may take; None for as many as there are.
    """

    def __init__(
        self, jobs: int, start: Callable[[], None], *, interpret: bool = False, memory: int | None = None
    ) -> None:
        self._jobs, self._start, self._interpret = jobs, start, interpret
        self._memory = None if memory is None else MemoryWatch(memory)
        self._scratch = tempfile.TemporaryDirectory(prefix="deltaproof-", ignore_cleanup_errors=True)
        self._pool: ProcessPool | None = None
        self._width = 0
        self._others: set[Any] = set()
        self._before = dict(os.environ)

    def __enter__(self) -> Workers:
        # Triton reads its flag when it decorates a kernel, which a process may do as soon as it is started.
        os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1"))
        os.environ["TRITON_INTERPRET"] = "1" if self._interpret else "0"
        (Path(self._scratch.name) / _WATCHED).mkdir()
        if self._memory is not None:
            self._memory.start(Path(self._scratch.name) / _WATCHED)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        if self._memory is not None:
            self._memory.stop()
        self._scratch.cleanup()
        os.environ.clear()
        os.environ.update(self._before)

    def folder(self) -> Path:
        """A new folder that is there until the processes have ended, even if they still write into it."""
        return Path(tempfile.mkdtemp(dir=self._scratch.name))

    def run(
        self,
        task: Callable[..., T],
        arguments: Iterable[tuple[Any, ...]],
        timeout: float | None,
        deadline: float = float("inf"),
        *,
        tries: int = _TRIES,
        busy: float | None = None,
    ) -> Iterator[tuple[int, T | Failure]]:
        """(index, result or failure) of every task, as they end; a task that has not begun at `deadline` (monotonic) is left out.

        timeout: seconds from the start of a task, after which its process is killed. busy: instead, those in which it uses the
        processor, or `PATIENCE` times as many on the clock. tries: deaths after which a task is given up. A task's own exception
        passes through; BrokenProcessPool where processes end before they can take a task.
        """
        waiting = list(arguments)
        if busy is not None:
            waiting, task, timeout = [(busy, task, *one) for one in waiting], within, busy * PATIENCE
        self._widen(min(self._jobs, len(waiting)))
        ended: SimpleQueue[tuple[int, Any]] = SimpleQueue()
        deaths, starts = [0] * len(waiting), 1
        running = {index: self._schedule(task, waiting, index, timeout, ended) for index in range(len(waiting))}
        while running:
            if time.monotonic() > deadline:
                # A cancelled future that runs would take its process with it.
                begun = {index: future for index, future in running.items() if future.running() or not future.cancel()}
                running = begun
            try:
                # The timeout is how long an interruption may wait.
                check_interrupt()
                index, future = ended.get(timeout=0.5)
            except Empty:
                continue
            if running.get(index) is not future:
                continue
            running.pop(index)
            try:
                yield index, future.result()
            except CancelledError:
                continue
            except TimeoutError:
                yield index, Failure(outcome="timeout")
            except ProcessExpired as error:
                deaths[index] += 1
                if busy is not None and error.exitcode == LATE:
                    yield index, Failure(outcome="timeout")
                elif self._memory is not None and error.pid in self._memory.ended:
                    yield index, Failure(outcome="memory")
                elif deaths[index] < tries:
                    running[index] = self._schedule(task, waiting, index, timeout, ended)
                else:
                    yield index, Failure(outcome="crash", code=error.exitcode)
            except BrokenProcessPool:
                self._stop()
                if starts == _STARTS:
                    raise
                starts += 1
                left = (index, *running)
                running = {other: self._schedule(task, waiting, other, timeout, ended) for other in left}

    def _schedule(
        self,
        task: Callable[..., Any],
        arguments: list[tuple[Any, ...]],
        index: int,
        timeout: float | None,
        ended: SimpleQueue[Any],
    ) -> Any:
        future: Future[Any]
        try:
            with kept_from_children():
                future = self._started().schedule(task, args=arguments[index], timeout=timeout)
        except RuntimeError as error:
            # The pool broke since the last task was taken; its other tasks may end without a word of it.
            future = Future()
            future.set_exception(BrokenProcessPool(str(error)))
        future.add_done_callback(lambda done: ended.put((index, done)))
        return future

    def _widen(self, width: int) -> None:
        """Let so many processes be started, if fewer were until now; those have no tasks left."""
        if width > self._width:
            self._stop()
            self._width = width

    def _started(self) -> ProcessPool:
        if self._pool is None:
            self._others = set(multiprocessing.active_children())
            self._pool = ProcessPool(
                max_workers=self._width,
                max_tasks=_TASKS,
                initializer=_begin,
                initargs=(os.getpid(), self._scratch.name, self._start),
                context=multiprocessing.get_context("spawn"),
            )
        return self._pool

    def _stop(self) -> None:
        if self._pool is not None:
            # Once before the pool, for which a starting process waits, is gone, and once more, for a process that was started
            # since.
            self._kill()
            self._pool.stop()
            self._pool.join()
            self._kill()
            self._pool = None

    def _kill(self) -> None:
        """End the processes of the pool and those that they have started; none of their results is wanted any more."""
        for process in {*multiprocessing.active_children()} - self._others:
            number = process.pid or 0
            with suppress(ProcessLookupError):
                if number and os.getpgid(number) == number:
                    os.killpg(number, signal.SIGKILL)
            process.kill()
            process.join()


def one_thread() -> None:
    """Prepare a process for torch on a CPU: processes run side by side, and a sum on one thread has one order."""
    import torch

    torch.set_num_threads(1)


def _begin(parent: int, scratch: str, start: Callable[[], None]) -> None:
    """Prepare a process: files in `scratch`, and an end for it and its own children when its parent is gone."""
    tempfile.tempdir = tempfile.mkdtemp(dir=scratch)
    sign_up(Path(scratch) / _WATCHED)
    # A group of its own: a compiler's assembler would outlive it otherwise, and Ctrl-C is for the parent to handle.
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, lambda *_: os.killpg(0, signal.SIGKILL))
    threading.Thread(target=_watch, args=(parent, scratch), daemon=True).start()
    start()


def _watch(parent: int, scratch: str) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(scratch, ignore_errors=True)
    os.killpg(0, signal.SIGKILL)
