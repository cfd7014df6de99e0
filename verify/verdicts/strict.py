"""Values of a JSON document that somebody else may have written, held against the types that they must have."""

from __future__ import annotations

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from ...results.schema.strict import shown


def typed(name: str, value: Any, hint: Any) -> Any:
    """The value, lists as the tuples that the hint says. Raises ValueError that names it where it is of another type."""
    if hint is Any:
        return value
    if hint is float:
        return number(name, value)
    kind, parts = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        if value is None and NoneType in parts:
            return None
        return typed(name, value, next(part for part in parts if part is not NoneType))
    if kind is Literal:
        return typed(name, value, str)
    if kind is tuple and isinstance(value, list | tuple):
        if parts[-1] is ...:
            return tuple(typed(name, item, parts[0]) for item in value)
        if len(value) == len(parts):
            return tuple(typed(name, item, part) for item, part in zip(value, parts, strict=True))
    if kind is dict and isinstance(value, dict):
        return {key: typed(name, item, parts[1]) for key, item in value.items()} if parts else value
    if kind is not tuple and isinstance(value, kind) and isinstance(value, bool) == (kind is bool):
        return value
    raise ValueError(f"{name} is {shown(value)}; expected {getattr(hint, '__name__', hint)}")


def number(name: str, value: Any) -> float:
    """A number, or the text that stands for one that JSON does not have. Raises ValueError that names it."""
    if value in ("nan", "inf", "-inf") or (isinstance(value, int | float) and not isinstance(value, bool)):
        try:
            return float(value)
        except OverflowError:
            pass
    raise ValueError(f"{name} is {shown(value)}; expected a number")
