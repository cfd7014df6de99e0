"""`tables/<gpu>.json`: the configurations to launch on one GPU; sorted, one entry a line, no timestamps: diffs read well."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from ..files.atomic import replace
from .entry import TableEntry, entry_from_json, entry_to_json
from .gpus import KnownGpu
from .key import Key, key_from_json, key_to_json
from .strict import CONFIG, DIGEST, NAME, Fields, TableError, parse
from .text_files import read_text

SCHEMA = 2
EVERYWHERE = "portfolio"
"""The slug of the table that holds for every GPU."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Work that a budget did not reach: `count` configurations of `key`; its sizes may be 0, for all."""

    key: Key
    count: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Refused:
    """A configuration that failed on this GPU at these head dimensions, for all sizes. kernel: the digest of its sources."""

    key: Key
    config: str
    kernel: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Every entry for one GPU. sm_count and memory_gib say which variant of the chip; 0 in the portfolio.

    Raises ValueError unless entries and left are sorted by key and no key is there twice, and refused is sorted.
    """

    gpu: str
    arch: str
    sm_count: int
    memory_gib: int
    entries: tuple[TableEntry, ...] = ()
    left: tuple[Left, ...] = ()
    refused: tuple[Refused, ...] = ()

    def __post_init__(self) -> None:
        for what, keys in (
            ("entries", [entry.key for entry in self.entries]),
            ("left", [row.key for row in self.left]),
        ):
            for before, after in pairwise(keys):
                if before >= after:
                    raise ValueError(
                        f"{what}: {after} {'is there twice' if before == after else f'comes after {before}'}"
                    )
        if list(self.refused) != sorted(set(self.refused)):
            raise ValueError("refused: not in order, or something is there twice")
        for entry in self.entries:
            if (entry.tier == "portfolio") != (self.gpu == EVERYWHERE):
                raise ValueError(
                    f"entries: {entry.key} has tier {entry.tier}, which does not belong in a table of {self.gpu}"
                )


def make_table(
    gpu: KnownGpu | None, entries: Iterable[TableEntry], left: Iterable[Left] = (), refused: Iterable[Refused] = ()
) -> Table:
    """A sorted table for a GPU, or for every GPU if that is None. Raises ValueError as `Table` does."""
    return Table(
        gpu=gpu.slug if gpu else EVERYWHERE,
        arch=gpu.arch if gpu else "any",
        sm_count=gpu.sm_count if gpu else 0,
        memory_gib=gpu.memory_gib if gpu else 0,
        entries=tuple(sorted(entries, key=lambda entry: entry.key)),
        left=tuple(sorted(left, key=lambda row: row.key)),
        refused=tuple(sorted(set(refused))),
    )


def dumps(table: Table) -> str:
    """The text of a table; `loads` reads it back. Equal tables have equal texts."""
    head = {
        "schema": SCHEMA,
        "gpu": table.gpu,
        "arch": table.arch,
        "sm_count": table.sm_count,
        "memory_gib": table.memory_gib,
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    left = [key_to_json(row.key) | {"count": row.count} for row in table.left]
    refused = [key_to_json(row.key) | {"config": row.config, "kernel": row.kernel} for row in table.refused]
    lines += [_rows("left", left), _rows("refused", refused), _rows("entries", map(entry_to_json, table.entries))]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def loads(text: str, where: str) -> Table:
    """The table in `text`; `where` names it in errors. Raises TableError."""
    fields = Fields(parse(text, where), where)
    schema = fields.whole("schema")
    if schema != SCHEMA:
        raise TableError(f"{where}: field 'schema' is {schema}, this version of deltaproof reads {SCHEMA}")
    values = {
        "gpu": fields.text("gpu", NAME),
        "arch": fields.text("arch", NAME),
        "sm_count": fields.whole("sm_count"),
        "memory_gib": fields.whole("memory_gib"),
        "left": tuple(map(_left, fields.objects("left", "row"))),
        "refused": tuple(map(_refused, fields.objects("refused", "row"))),
        "entries": tuple(map(entry_from_json, fields.objects("entries", "entry"))),
    }
    fields.end()
    return fields.made(Table, **values)


def read_table(path: Path) -> Table:
    """The table in a file. Raises TableError for a file that cannot be read as one, a missing file included."""
    return loads(read_text(path), str(path))


def write_table(table: Table, path: Path) -> None:
    """Replace `path` atomically. Raises OSError."""
    replace(path, dumps(table))


def _rows(name: str, rows: Iterable[object]) -> str:
    body = ",\n".join(map(json.dumps, rows))
    return f"{json.dumps(name)}: [\n{body}\n]" if body else f"{json.dumps(name)}: []"


def _left(fields: Fields) -> Left:
    row = Left(key=key_from_json(fields), count=fields.whole("count", 1))
    fields.end()
    return row


def _refused(fields: Fields) -> Refused:
    row = Refused(key=key_from_json(fields), config=fields.text("config", CONFIG), kernel=fields.text("kernel", DIGEST))
    fields.end()
    return row
