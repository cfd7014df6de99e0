"""Where tables are looked for."""

from __future__ import annotations

import os
from pathlib import Path

from ..files.packaged import packaged
from ..files.user_folder import user_folder
from ..schema.strict import TableError
from ..schema.table import Table, loads, read_table

VARIABLE = "DELTAPROOF_TABLES"
"""Names folders or files to look into before the user's own, separated as in PATH."""


def user_tables() -> Path:
    """The folder with the tables that this user tuned."""
    return user_folder() / "tables"


def find_tables(slug: str, first: str | os.PathLike[str] | None = None) -> tuple[Table, ...]:
    """The tables of a GPU: from `first`, a folder or file, then DELTAPROOF_TABLES, the user's folder and the package.

    Raises TableError for a table that is damaged or is another GPU's, and for a place that was named but is not there.
    """
    named = [] if first is None else [("tables=", Path(first))]
    named += [(VARIABLE, Path(place)) for place in os.environ.get(VARIABLE, "").split(os.pathsep) if place]
    tables: list[Table] = []
    for who, place in named:
        if place.is_dir():
            tables += _in_folder(place, slug)
        elif not os.path.lexists(place):
            raise TableError(f"{place}: no such file or folder, named by {who}")
        elif (table := read_table(place)).gpu == slug:
            tables.append(table)
    shipped = shipped_table(slug)
    return (*tables, *_in_folder(user_tables(), slug), *([shipped] if shipped else []))


def _in_folder(folder: Path, slug: str) -> list[Table]:
    path = folder / f"{slug}.json"
    # A folder, a pipe or a dangling link of that name is not "no table": read_table names it.
    return [named(slug, read_table(path), str(path))] if os.path.lexists(path) else []


def shipped_table(slug: str) -> Table | None:
    """The table of a GPU in the package, if one ships. Raises TableError for a damaged one."""
    file = packaged("tables") / f"{slug}.json"
    if not file.is_file():
        return None
    where = f"packaged tables/{slug}.json"
    return named(slug, loads(file.read_text(encoding="utf-8"), where), where)


def named(slug: str, table: Table, where: str) -> Table:
    """The table, if it is that of the GPU that its file is named for. Raises TableError."""
    if table.gpu != slug:
        raise TableError(f"{where}: field 'gpu' is {table.gpu!r}, but the file is named for {slug!r}")
    return table
