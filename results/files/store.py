"""Results that need not be found again: one JSON file each, written whole or not at all, and read with suspicion."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

from .atomic import replace
from .one_line import folded


class Storable(Protocol):
    """A result that can be kept. `from_json` raises ValueError for a record that `to_json` cannot have made."""

    def to_json(self) -> dict[str, Any]: ...

    @classmethod
    def from_json(cls, record: Any) -> Self: ...


T = TypeVar("T", bound=Storable)


@dataclass(frozen=True, slots=True, kw_only=True)
class Store(Generic[T]):
    """Reads and writes results under `folder`, by a key that stands for all that they depend on.

    warn: told, in one line, of files that cannot be used. kind: of the results. name: theirs in a file. again: the words for the
    action that replaces reading one that cannot be used.
    """

    folder: Path
    warn: Callable[[str], None] = lambda message: None

    kind: ClassVar[type[Storable]]
    name: ClassVar[str]
    again: ClassVar[str]
    schema: ClassVar[int]

    def get(self, key: str) -> T | None:
        """The result kept under a key; None if there is none that can be read."""
        path = self._path(key)
        try:
            entry = json.loads(path.read_bytes())
            if entry["schema"] != self.schema or entry["key"] != key:
                raise ValueError("another schema or key")
            return self.kind.from_json(entry[self.name])  # pyright: ignore[reportReturnType]
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            self.warn(f"{path}: cannot be read ({folded(error)[:120]}); {self.again}")
            return None

    def put(self, key: str, result: T) -> None:
        """Keep a result. Raises OSError, and then the earlier result stands."""
        replace(self._path(key), json.dumps({"schema": self.schema, "key": key, self.name: result.to_json()}))

    def _path(self, key: str) -> Path:
        return self.folder / key[:2] / f"{key}.json"
