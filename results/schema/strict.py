"""Read JSON that may be damaged or hostile: by name and type; a field that is left over is an error."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from typing import Any, NoReturn, TypeVar

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]{0,119}")
"""Ops, rules, GPUs, versions. Files are named for some of them, so that none may name another folder."""
CONFIG = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.,=:+-]{0,399}")
"""A launch configuration as a token."""
DIGEST = re.compile(r"[0-9a-f]{16,64}")

_LARGEST = 2**53
"""Integers beyond this do not survive every JSON reader."""


class TableError(ValueError):
    """A table or record that cannot be used: one line with the file, the entry and the field."""


def parse(text: str, where: str) -> Any:
    """The JSON value in `text`. Raises TableError; repeated names, NaN and infinities are errors too."""

    def pairs(items: list[tuple[str, Any]]) -> dict[str, Any]:
        record = dict(items)
        if len(record) != len(items):
            names = [name for name, _ in items]
            raise ValueError(f"the name {shown(next(name for name in names if names.count(name) > 1))} is repeated")
        return record

    def constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not a number that JSON has")

    try:
        return json.loads(text, object_pairs_hook=pairs, parse_constant=constant)
    except RecursionError:
        raise TableError(f"{where}: nested too deeply") from None
    except ValueError as error:
        raise TableError(f"{where}: not valid JSON: {error}") from None


class Fields:
    """One JSON object, read strictly.

    Each method takes a field out, or raises TableError naming `where` and the field.
    """

    __slots__ = ("_record", "where")

    def __init__(self, value: Any, where: str) -> None:
        self.where = where
        if not isinstance(value, dict):
            raise TableError(f"{where}: expected an object, found {shown(value)}")
        self._record = dict(value)

    def text(self, name: str, pattern: re.Pattern[str], *, empty: bool = False) -> str:
        """A string that `pattern` matches whole; `empty` allows "" too."""
        value = self._take(name)
        if not isinstance(value, str) or not (pattern.fullmatch(value) or (empty and not value)):
            self._fail(name, value, f"a string like {pattern.pattern}")
        return value

    def prose(self, name: str) -> str:
        """One line of at most 2,000 printable characters; may be empty."""
        value = self._take(name)
        if not isinstance(value, str) or len(value) > 2000 or not all(map(str.isprintable, value)):
            self._fail(name, value, "one line of text")
        return value

    def choice(self, name: str, choices: Iterable[str]) -> Any:
        value, choices = self._take(name), tuple(choices)
        if value not in choices:
            self._fail(name, value, f"one of {', '.join(choices)}")
        return value

    def flag(self, name: str) -> bool:
        value = self._take(name)
        if type(value) is not bool:
            self._fail(name, value, "true or false")
        return value

    def whole(self, name: str, least: int = 0, most: int = _LARGEST) -> int:
        """An integer from `least` to `most`."""
        value = self._take(name)
        if type(value) is not int or not least <= value <= most:
            self._fail(name, value, f"an integer of {least} or more" + (f", {most} at most" if most < _LARGEST else ""))
        return value

    def number(self, name: str) -> float:
        """A finite number, 0 or more."""
        value = self._take(name)
        if not _is_number(value):
            self._fail(name, value, "a number of 0 or more")
        return float(value)

    def number_or_null(self, name: str) -> float | None:
        value = self._take(name)
        if value is not None and not _is_number(value):
            self._fail(name, value, "a number of 0 or more, or null")
        return None if value is None else float(value)

    def numbers(self, name: str) -> tuple[float, ...]:
        value = self._take(name)
        if not isinstance(value, list) or not all(map(_is_number, value)):
            self._fail(name, value, "a list of numbers of 0 or more")
        return tuple(map(float, value))

    def texts(self, name: str, pattern: re.Pattern[str]) -> tuple[str, ...]:
        value = self._take(name)
        if not isinstance(value, list) or not all(isinstance(item, str) and pattern.fullmatch(item) for item in value):
            self._fail(name, value, f"a list of strings like {pattern.pattern}")
        return tuple(value)

    def objects(self, name: str, label: str) -> list[Fields]:
        """A list of objects, each read in its turn."""
        value = self._take(name)
        if not isinstance(value, list):
            self._fail(name, value, "a list")
        return [Fields(item, f"{self.where}: {label} {index}") for index, item in enumerate(value)]

    def object(self, name: str) -> Fields:
        return Fields(self._take(name), f"{self.where}: {name}")

    def object_or_null(self, name: str, read: Callable[[Fields], T]) -> T | None:
        """The result of `read` for an object, or None for null."""
        value = self._take(name)
        return None if value is None else read(Fields(value, f"{self.where}: {name}"))

    def raw(self, name: str) -> Any:
        """A value as it is, for the caller to check."""
        return self._take(name)

    def peek(self, name: str) -> Any:
        """A value that is left where it is; None if it is missing."""
        return self._record.get(name)

    def default(self, name: str, value: Any) -> None:
        """Put a value where there is none."""
        self._record.setdefault(name, value)

    @property
    def names(self) -> tuple[str, ...]:
        """The names that have not been taken yet, for objects whose names are data."""
        return tuple(self._record)

    def end(self) -> None:
        """Nothing may be left."""
        if self._record:
            raise TableError(f"{self.where}: unknown field {shown(min(self._record))}")

    def made(self, kind: Callable[..., T], **values: Any) -> T:
        """`kind(**values)`, whose own objections become a TableError."""
        try:
            return kind(**values)
        except ValueError as error:
            raise TableError(f"{self.where}: {error}") from None

    def _take(self, name: str) -> Any:
        if name not in self._record:
            raise TableError(f"{self.where}: field {name!r} is missing")
        return self._record.pop(name)

    def _fail(self, name: str, value: Any, expected: str) -> NoReturn:
        raise TableError(f"{self.where}: field {name!r} is {shown(value)}, expected {expected}")


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and 0 <= value <= _LARGEST and math.isfinite(value)


def shown(value: Any) -> str:
    """The value as one short line at most."""
    text = ascii(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
