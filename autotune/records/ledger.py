"""The records of one GPU, the additions of a run, and the table that is derived from them."""

from __future__ import annotations

import os
import shlex
from collections.abc import Hashable, Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from ...results.digests.kernels import kernel_digest
from ...results.evidence.archive import shipped_records
from ...results.evidence.derive import derive
from ...results.evidence.journal import append, read_journals
from ...results.evidence.portfolio import portfolio
from ...results.schema.gpus import KnownGpu, known_gpus
from ...results.schema.record import Gated, Measured, Ranking, Record, Unexplored, record_to_line
from ...results.schema.strict import TableError
from ...results.schema.table import EVERYWHERE, Table, read_table, write_table
from ...results.serve.search_path import named, shipped_table, user_tables
from ..space.validate import read_record, validated


def default_out() -> Path:
    """The folder that tables and records are written to: the user's data folder."""
    return user_tables().parent


class Ledger:
    """The records of a GPU: those that ship, then those of runs, `records/<gpu>/<op>.jsonl` under `out`.

    Only `out` is written to: journals, `tables/<gpu>.json` and `tables/portfolio.json`. A record that is known already is not
    written again. Raises TableError for records that cannot be read.
    """

    def __init__(self, out: Path, gpu: KnownGpu) -> None:
        self.gpu = gpu
        self._out = out
        self.folder = out / "records" / gpu.slug
        self.table_path = out / "tables" / f"{gpu.slug}.json"
        self._shipped = shipped_records(gpu.slug, read_record)
        journal = read_journals(self.folder, read_record)
        self.torn = journal.torn
        self.own = len(journal.records)
        self.records = [*self._shipped, *journal.records]

    def add(self, records: Iterable[Record]) -> None:
        """Append the new ones among `records`, and wait until they are on disk. Raises OSError."""
        fresh: dict[str, list[Record]] = {}
        for record in records:
            line, subject = record_to_line(record), _subject(record)
            if self._last.get(subject) != line:
                self._last[subject] = line
                self.records.append(record)
                fresh.setdefault(record.key.op, []).append(record)
        for op, some in fresh.items():
            append(self.folder / f"{op}.jsonl", some)

    def table(self) -> Table:
        """The table that all records give, those that others appended meanwhile included, for the kernels as they are now."""
        journal = read_journals(self.folder, read_record)
        return derive([*self._shipped, *journal.records], self.gpu, kernel_digest)

    def written(self) -> Table:
        """The table under `out`, else the one that ships. Raises TableError for one that is damaged or is another GPU's, and
        where there is none."""
        slug = self.gpu.slug
        if os.path.lexists(self.table_path):
            table = named(slug, read_table(self.table_path), str(self.table_path))
        elif (shipped := shipped_table(slug)) is None:
            raise TableError(f"no table {self.table_path}; run `{self.command()}` first")
        else:
            table = shipped
        return validated(table, self.table_name)

    def command(self, name: str = "") -> str:
        """The command line of one of the commands, "" for the tuner itself, on this GPU and in this folder."""
        own = [] if self._out == default_out() else ["--out", str(self._out)]
        return shlex.join(["autotune", *filter(None, [name]), "--gpu", self.gpu.slug, *own])

    @property
    def has_table(self) -> bool:
        return os.path.lexists(self.table_path) or shipped_table(self.gpu.slug) is not None

    @property
    def table_name(self) -> str:
        """The place of the table that `written` reads, for messages."""
        if os.path.lexists(self.table_path):
            return str(self.table_path)
        return f"packaged tables/{self.gpu.slug}.json"

    def verdicts(self) -> Iterator[Gated]:
        """The verdicts that are of no one GPU: the interpreter's, and those on compiled code, which are of an architecture. Those
        for this GPU, then those for others, whose records are read when it comes to them.

        Raises TableError for another GPU's records that cannot be read.
        """
        others = (self._records_of(slug) for slug in sorted(known_gpus()) if slug != self.gpu.slug)
        for record in chain(list(self.records), chain.from_iterable(others)):
            if isinstance(record, Gated) and record.where != "device":
                yield record

    def write_table(self) -> Table:
        """Replace the table under `out` by the one that the records give. Raises OSError."""
        table = self.table()
        write_table(table, self.table_path)
        return table

    def write_portfolio(self) -> Table | None:
        """Replace the table of the configurations safe everywhere, from the records of every GPU; None if they agree on none.

        Raises OSError, and TableError for another GPU's records that cannot be read.
        """
        found = {slug: records for slug in known_gpus() if (records := self._records_of(slug))}
        table = portfolio(found, kernel_digest)
        path = self.table_path.with_name(f"{EVERYWHERE}.json")
        if not table.entries and not path.exists():
            return None
        write_table(table, path)
        return table

    def _records_of(self, slug: str) -> list[Record]:
        return [*self._shipped_of(slug), *read_journals(self.folder.parent / slug).records]

    def _shipped_of(self, slug: str) -> Iterable[Record]:
        return self._shipped if slug == self.gpu.slug else shipped_records(slug)

    @cached_property
    def _last(self) -> dict[Hashable, str]:
        return {_subject(record): record_to_line(record) for record in self.records}


def _subject(record: Record) -> Hashable:
    """The subject on which the last record counts; an equal record may count again later, as when a driver comes back.

    Any other record counts for good.
    """
    match record:
        case Ranking() | Unexplored():
            return type(record), record.key, record.kernel
        case Gated(where="compiled"):
            compiler, ran = record.triton, bool(record.schedules)
            return type(record), record.where, record.key, record.kernel, record.config, compiler, ran
        case Gated(where="interpreter"):
            return type(record), record.where, record.key, record.kernel, record.config
        case Measured():
            return type(record), record.key, record.kernel, record.config, record.protocol
    return record_to_line(record)
