"""The memory of a stale kernel: the first value that each of its arguments had. Used by code with such a fault in it."""

from __future__ import annotations

from typing import Any

_first: dict[str, Any] = {}


def first(place: str, value: Any) -> Any:
    """The value that was given for this place first, since `forget`."""
    return _first.setdefault(place, value)


def forget() -> None:
    """Begin anew: what one question made a kernel keep must not answer the next."""
    _first.clear()
