"""One launch in several processes: each runs a share of the programs on memory that all of them see.

The storages of the launch are copied to anonymous shared memory, children are forked, and the copies go back when all
of them are done. Until then nothing of the caller is touched, so that a launch which turns out to need one process
(atomics, whose order matters) simply starts over.
"""

from __future__ import annotations

import ctypes
import mmap
import multiprocessing
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch

from . import solo
from .addresses.memory import Memory, MemoryFault
from .arithmetic.protocol import Arithmetic
from .launch import Launch, Program, ProgramError, execute
from .records import Records

PROBE = 0.05
"""Seconds of work by which the rest of a grid is judged."""
WORTH_A_FORK = 0.3
"""Seconds that the rest must take; to fork costs a tenth of it."""


@dataclass(slots=True)
class _Outcome:
    """What one process found. error: its program, and its text. alone: the launch needs one process."""

    records: Records
    faults: list[MemoryFault]
    error: tuple[Program, str] | None = None
    alone: bool = False


class _SharedCopy:
    """A storage and its copy in shared memory."""

    def __init__(self, storage: torch.UntypedStorage) -> None:
        self.start, self.size = storage.data_ptr(), storage.nbytes()
        self._memory = mmap.mmap(-1, self.size)
        self._cells = (ctypes.c_char * self.size).from_buffer(self._memory)
        self.offset = ctypes.addressof(self._cells) - self.start
        ctypes.memmove(self.start + self.offset, self.start, self.size)

    def bring_back(self) -> None:
        ctypes.memmove(self.start, self.start + self.offset, self.size)

    def close(self) -> None:
        del self._cells
        self._memory.close()


def run_grid(launch: Launch, arithmetic: Arithmetic, records: Records, memory: Memory | None, processes: int) -> None:
    """Run a launch, in several processes if there is enough to do; the first programs tell.

    Raises ProgramError as `execute` does, and where a process dies.
    """
    programs = launch.programs
    plain = all(x is None or isinstance(x, torch.Tensor | int | float) for x in launch.device_arguments.values())
    done, seconds = 0, 0.0
    while processes > 1 and plain and done < len(programs) and seconds <= PROBE:
        start = time.perf_counter()
        execute(launch, programs[done : 2 * done + 1], arithmetic)
        seconds += time.perf_counter() - start
        done = min(2 * done + 1, len(programs))
    rest = programs[done:]
    if rest and done and seconds / done * len(rest) > WORTH_A_FORK:
        _run_in_processes(launch, rest, arithmetic, records, memory, processes)
    elif rest:
        execute(launch, rest, arithmetic)


def _run_in_processes(
    launch: Launch,
    programs: list[Program],
    arithmetic: Arithmetic,
    records: Records,
    memory: Memory | None,
    processes: int,
) -> None:
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage() for tensor in launch.tensors}
    copies = [_SharedCopy(storage) for storage in storages.values() if storage.nbytes()]
    try:
        outcomes = _fork(launch, programs, arithmetic, records, memory, processes, copies)
        if any(outcome.alone for outcome in outcomes):
            execute(launch, programs, arithmetic)
            return
        for copy in copies:
            copy.bring_back()
    finally:
        for copy in copies:
            copy.close()
    for outcome in outcomes:
        records.merge(outcome.records)
        if memory is not None:
            memory.merge(outcome.faults)
    if errors := [outcome.error for outcome in outcomes if outcome.error is not None]:
        program, text = min(errors)  # as one process would have met it
        raise ProgramError(text, program)


def _fork(
    launch: Launch,
    programs: list[Program],
    arithmetic: Arithmetic,
    records: Records,
    memory: Memory | None,
    processes: int,
    copies: list[_SharedCopy],
) -> list[_Outcome]:
    context = multiprocessing.get_context("fork")

    def relocate(address: int) -> int:
        return address + next((copy.offset for copy in copies if 0 <= address - copy.start < copy.size), 0)

    def share(index: int, reply: Connection) -> None:
        solo.in_share = True
        outcome = _Outcome(records, [])
        if memory is not None:
            memory.relocate(relocate)
        try:
            execute(launch, programs[index::processes], arithmetic, relocate)
        except solo.NeedsOneProcess:
            outcome.alone = True
        except ProgramError as error:
            outcome.error = error.program, str(error)
        outcome.faults = [] if memory is None else memory.faults
        reply.send(outcome)

    workers, replies = [], []
    for index in range(processes):
        receive, send = context.Pipe(duplex=False)
        worker = context.Process(target=share, args=(index, send))
        worker.start()
        send.close()  # so that the death of the worker is the end of the stream
        workers.append(worker)
        replies.append(receive)
    outcomes = []
    for worker, reply in zip(workers, replies, strict=True):
        try:
            outcomes.append(reply.recv())
        except EOFError:
            worker.join()
            died = f"{launch.name}: a process that ran a share of the grid died with exit code {worker.exitcode}"
            outcomes.append(_Outcome(Records(), [], error=(launch.grid, died)))
        worker.join()
    return outcomes
