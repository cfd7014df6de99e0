"""The records of one GPU: what a run adds to them, and the table they amount to."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator
from functools import cached_property
from itertools import chain
from pathlib import Path

from ...results.digests.kernels import kernel_digest
from ...results.evidence.derive import derive
from ...results.evidence.journal import append, read_journals
from ...results.evidence.portfolio import portfolio
from ...results.schema.gpus import Gpu, known_gpus
from ...results.schema.record import Gated, Measured, Ranking, Record, Unexplored, record_to_line
from ...results.schema.table import EVERYWHERE, Table, read_table, write_table
from ...results.serve.search_path import named, user_tables
from ..compile.cache import PACKAGE, is_checkout
from ..space.validate import read_record, vetted


def default_out() -> Path:
    """Where tables and records go: `results/` in a checkout, the user's data folder when installed."""
    return PACKAGE / "results" if is_checkout() else user_tables().parent


class Ledger:
    """`records/<gpu>/<op>.jsonl` and `tables/<gpu>.json` under `out`. What is known already is not written again.

    Raises TableError for records that cannot be read.
    """

    def __init__(self, out: Path, gpu: Gpu) -> None:
        self.gpu = gpu
        self.folder = out / "records" / gpu.slug
        self.table_path = out / "tables" / f"{gpu.slug}.json"
        journal = read_journals(self.folder, read_record)
        self.torn = journal.torn
        self.records = list(journal.records)

    def add(self, records: Iterable[Record]) -> None:
        """Append what is new, and wait until it is on disk. Raises OSError."""
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
        """What every record on disk amounts to, for the kernels as they are now."""
        return derive(read_journals(self.folder, read_record).records, self.gpu, kernel_digest)

    def written(self) -> Table:
        """The table on disk. Raises TableError for one that is not there, is damaged or is another GPU's."""
        where = str(self.table_path)
        return vetted(named(self.gpu.slug, read_table(self.table_path), where), where)

    def verdicts(self) -> Iterator[Gated]:
        """What the interpreter said, which knows no GPU: for this one, then for others with records here, read when it comes to
        them.

        Raises TableError for another GPU's records that cannot be read.
        """
        others = (read_journals(folder, read_record).records for folder in self._everybodys() if folder != self.folder)
        for record in chain(list(self.records), chain.from_iterable(others)):
            if isinstance(record, Gated) and record.where == "interpreter":
                yield record

    def write_table(self) -> Table:
        """Replace the table by what the records amount to. Raises OSError."""
        table = self.table()
        write_table(table, self.table_path)
        return table

    def write_portfolio(self) -> Table | None:
        """Replace the table of what is safe everywhere, of the records of every GPU here; None if they agree on nothing.

        Raises OSError, and TableError for another GPU's records that cannot be read.
        """
        table = portfolio({folder.name: read_journals(folder).records for folder in self._everybodys()}, kernel_digest)
        path = self.table_path.with_name(f"{EVERYWHERE}.json")
        if not table.entries and not path.exists():
            return None
        write_table(table, path)
        return table

    def _everybodys(self) -> list[Path]:
        return [path for slug in sorted(known_gpus()) if (path := self.folder.parent / slug).is_dir()]

    @cached_property
    def _last(self) -> dict[Hashable, str]:
        return {_subject(record): record_to_line(record) for record in self.records}


def _subject(record: Record) -> Hashable:
    """What a record has the last word on; the same one may have it again later, as when a driver comes back.

    Any other record is known for good.
    """
    match record:
        case Ranking() | Unexplored():
            return type(record), record.key, record.kernel
        case Gated(where="interpreter" | "compiled"):
            return type(record), record.where, record.key, record.kernel, record.config
        case Measured():
            return type(record), record.key, record.kernel, record.config, record.protocol
    return record_to_line(record)
