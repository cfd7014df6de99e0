"""Faults that change nothing, each with its argument, kept in a committed file.

An entry counts only while the source of its function is the one that the argument is about, and only if every launch of
the nightly profile gave the same bits with the fault as without it (`prove`).
"""

from __future__ import annotations

import ast
import hashlib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from .mutant import Mutant, Source

PATH = Path(__file__).resolve().parents[2] / "results" / "mutants" / "equivalent.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class Equivalent:
    """where: the fault in words. argument: why it changes nothing. source: digest of the function it is about.

    launches: launches of the function in the nightly profile whose outputs were the same bits.
    complete: these were all launches of the profile; before that, the entry does not count.
    """

    id: str
    where: str
    argument: str
    source: str
    launches: int = 0
    complete: bool = False


def read(path: Path = PATH) -> dict[str, Equivalent]:
    """The entries by id; none if there is no file. Raises ValueError for a file that is not one of entries."""
    if not path.exists():
        return {}
    try:
        entries = tomllib.loads(path.read_text())
        return {id: Equivalent(id=id, **entry) for id, entry in entries.items()}
    except (tomllib.TOMLDecodeError, TypeError) as error:
        raise ValueError(f"{path} is not a list of equivalent faults: {error}") from None


def accepted(mutant: Mutant, entries: Mapping[str, Equivalent], sources: Mapping[str, Source]) -> str | None:
    """The argument why a mutant is equivalent, if it is proven and still about this source."""
    entry = entries.get(mutant.id)
    if (
        entry is None
        or not entry.argument.strip()
        or not (entry.launches and entry.complete)
        or entry.source != digest(sources[mutant.function])
    ):
        return None
    return entry.argument


def digest(source: Source) -> str:
    """Names the code of a function, comments and layout left out."""
    return hashlib.sha256(ast.unparse(source.tree).encode()).hexdigest()[:16]


def write(entries: Mapping[str, Equivalent], path: Path = PATH) -> None:
    """The file, entries in order of their ids."""
    lines = [
        "# Faults that change nothing: `verify mutants --prove` writes launches and source, people write the argument.\n"
    ]
    for entry in sorted(entries.values(), key=lambda entry: entry.id):
        lines.append(f"[{_text(entry.id)}]\nwhere = {_text(entry.where)}\nargument = {_text(entry.argument)}")
        lines.append(
            f"source = {_text(entry.source)}\nlaunches = {entry.launches}\ncomplete = {str(entry.complete).lower()}\n"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines))


def _text(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return f'"{escaped}"'
