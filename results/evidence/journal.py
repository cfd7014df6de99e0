"""`records/<gpu>/<op>.jsonl`: append-only and crash-safe.

A record once written is never lost, and never written in part.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from ..schema.record import Record, record_from_line, record_to_line
from ..schema.strict import TableError

Read = Callable[[str, str], Record]
"""Makes a record of a line, or raises TableError, in which the second argument names the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Journal:
    """The records of one file, in the order in which they were appended.

    torn: a message about the part of a last line that a killed writer left; None if the file ends as it should.
    """

    records: tuple[Record, ...]
    torn: str | None = None


def append(path: Path, records: Iterable[Record]) -> None:
    """Add records to a journal and wait until they are on disk.

    Any number of processes may append at once. The folder and the file are made if need be; a torn last line, which no
    writer was ever told to be safe, is cut off first. A writer that is killed leaves whole records, then at most one
    torn line. Raises OSError (a full disk, say), and then the file is as before; TableError for a record that could not
    be read back.
    """
    lines = [record_to_line(record) for record in records]
    for line in lines:
        record_from_line(line, "record")
    if not lines:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    data = "".join(f"{line}\n" for line in lines).encode()
    with _locked(path) as handle:
        end = _whole_lines(handle)
        os.ftruncate(handle, end)
        try:
            written = 0
            while written < len(data):
                written += os.pwrite(handle, data[written:], end + written)
            os.fsync(handle)
        except BaseException:
            os.ftruncate(handle, end)
            raise


def read_journal(path: Path, read: Read = record_from_line) -> Journal:
    """Every record of a journal; none if there is no such file.

    Raises TableError naming the line that cannot be read.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return Journal(records=())
    except OSError as error:
        raise TableError(f"{path}: {error.strerror or error}") from None
    whole, end, rest = data.rpartition(b"\n")
    records = records_in(whole + end, str(path), read)
    torn = f"{path}: the last line is torn ({len(rest)} bytes of a record that was never finished)" if rest else None
    return Journal(records=tuple(records), torn=torn)


def records_in(text: bytes, where: str, read: Read) -> list[Record]:
    """The records of whole lines, in order. Raises TableError naming the line that cannot be read."""
    records = []
    for number, line in enumerate(text.removesuffix(b"\n").split(b"\n") if text else (), start=1):
        place = f"{where}: line {number}"
        try:
            records.append(read(line.decode(), place))
        except UnicodeDecodeError as error:
            raise TableError(f"{place}: not UTF-8 text ({error.reason})") from None
    return records


def read_journals(folder: Path, read: Read = record_from_line) -> Journal:
    """Every journal of a GPU, files in the order of their names, read as `read_journal` does. Raises TableError."""
    journals = [read_journal(path, read) for path in sorted(folder.glob("*.jsonl"))]
    torn = "; ".join(journal.torn for journal in journals if journal.torn)
    return Journal(records=tuple(record for journal in journals for record in journal.records), torn=torn or None)


@contextmanager
def _locked(path: Path) -> Iterator[int]:
    """A handle on the file while no other process appends to it."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield handle
    finally:
        os.close(handle)


def _whole_lines(handle: int) -> int:
    """The length of the file up to and with its last line end."""
    end = os.lseek(handle, 0, os.SEEK_END)
    while end:
        start = max(0, end - 4096)
        at = os.pread(handle, end - start, start).rfind(b"\n")
        if at >= 0:
            return start + at + 1
        end = start
    return 0
