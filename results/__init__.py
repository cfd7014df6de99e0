"""The knowledge of the project: tuned tables, the records they are derived from, and `lookup`. Standard library only.

Importing this loads next to nothing; the first call of `lookup` loads the rest.
"""

from __future__ import annotations

from .serve.lookup import forget, lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .schema.entry import TableEntry
    from .schema.key import Key
    from .schema.strict import TableError
    from .schema.table import Table
    from .serve.choose import Answer

_HOMES = {
    "Answer": "serve.choose", "Key": "schema.key", "Table": "schema.table", "TableEntry": "schema.entry",
    "TableError": "schema.strict",
}  # fmt: skip

__all__ = ["Answer", "Key", "Table", "TableEntry", "TableError", "forget", "lookup"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
