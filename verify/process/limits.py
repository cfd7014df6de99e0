"""The limits of a task: seconds of the processor, counted by the kernel, and memory, watched from outside.

A limit on the clock would depend on who else is at work. One on the processor's time ends the process by SIGPROF, whose default
is to end it, even if its interpreter is busy; the clock is left as a last resort, `PATIENCE` times as long. Memory is watched by
the parent: a limit of the system counts reserved memory, and some properties reserve on purpose.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 10
"""Seconds on the clock, for each of the processor, until a task that does nothing is given up."""
LATE = -signal.SIGPROF
"""The exit code of a process whose task used up its seconds."""
WORKER_BYTES = 2 << 30
"""Resident memory that a process of ours may take."""

_INTERVAL = 0.2
_PAGE = os.sysconf("SC_PAGE_SIZE")


def within(seconds: float, task: Callable[..., T], *arguments: Any) -> T:
    """The result of the task, if it takes no more than `seconds` of this process's processor time; the process ends otherwise."""
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        return task(*arguments)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


class MemoryWatch:
    """Ends processes that take more memory than they may. ended: their ids."""

    def __init__(self, limit: int) -> None:
        self.ended: set[int] = set()
        self._limit, self._stop = limit, threading.Event()
        self._folder: Path | None = None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def start(self, folder: Path) -> None:
        """Watch the processes that have signed up in a folder."""
        self._folder = folder
        self._thread.start()

    def stop(self) -> None:
        """Watch no longer."""
        self._stop.set()

    def _watch(self) -> None:
        assert self._folder is not None
        while not self._stop.wait(_INTERVAL):
            for process in map(int, os.listdir(self._folder)):
                if resident_bytes(process) > self._limit:
                    self.ended.add(process)
                    _kill(process)


def sign_up(folder: Path) -> None:
    """Have this process watched."""
    (folder / str(os.getpid())).touch()


def resident_bytes(process: int) -> int:
    """Memory of a process that is not the page cache's; 0 where it is gone, or where the system does not tell."""
    try:
        words = Path(f"/proc/{process}/statm").read_text().split()
    except OSError:
        return 0
    return (int(words[1]) - int(words[2])) * _PAGE + _shared_bytes(process)


def _shared_bytes(process: int) -> int:
    """Of that, anonymous memory that several processes share."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("RssShmem:")), 0)


def _kill(process: int) -> None:
    try:
        os.kill(process, signal.SIGKILL)
    except OSError:
        return
