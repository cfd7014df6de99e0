"""What do we know? Tuned tables, the records they are derived from, and `lookup`. Standard library only.

Importing this loads next to nothing; the first call of `lookup` loads the rest.
"""

from __future__ import annotations

from .dispatch import forget, lookup

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from .choose import Answer
    from .entry import TableEntry
    from .key import Key
    from .strict import TableError
    from .table import Table

_HOMES = {"Answer": "choose", "Key": "key", "Table": "table", "TableEntry": "entry", "TableError": "strict"}

__all__ = ["Answer", "Key", "Table", "TableEntry", "TableError", "forget", "lookup"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
