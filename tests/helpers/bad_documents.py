"""Documents that are wrong in one place, made from right ones: of JSON value by value, of text line by line."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

VALUES = (None, True, -1, 2**70, 1e308, "[/bold]\n\0", "x" * 5000, [[]], {"a": None})
"""One of every type that JSON has, and what is too large for its type."""


def places(document: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value; of a list, into its first element."""
    inside = (
        document.items()
        if isinstance(document, dict)
        else enumerate(document[:1])
        if isinstance(document, list)
        else ()
    )
    for name, value in inside:
        yield (*at, name)
        yield from places(value, (*at, name))


def bad_values(document: Any) -> Iterator[tuple[str, Any]]:
    """What was done, and the document after it: a value left out, replaced, or one added."""
    yield from ((f"all of it is {value!r:.30}", value) for value in VALUES)
    for way in places(document):
        for value in (*VALUES, ...):
            changed = copy.deepcopy(document)
            inner = changed
            for step in way[:-1]:
                inner = inner[step]
            if value is ...:
                del inner[way[-1]]
            else:
                inner[way[-1]] = value
            yield f"{way} is {value!r:.30}", changed


def bad_texts(text: str) -> Iterator[tuple[str, bytes]]:
    """What was done, and the bytes after it: cut off, with a line left out or there twice, or no text at all."""
    data = text.encode()
    for cut in {len(data) * part // 9 for part in range(9)}:
        yield f"cut at {cut}", data[:cut]
    lines = data.splitlines(keepends=True)
    for number in range(0, len(lines), max(1, len(lines) // 12)):
        yield f"without line {number}", b"".join(lines[:number] + lines[number + 1 :])
        yield f"line {number} twice", b"".join(lines[: number + 1] + lines[number:])
    for bad in (
        b"\xff\xfe",
        b"\0",
        b"\xef\xbb\xbf" + data,
        data.replace(b"\n", b"\r"),
        b"[" * 100_000,
        data + b"}",
        b"NaN",
    ):
        yield f"{bad[:8]!r}", bad


def shown(document: Any) -> bytes:
    """As JSON."""
    return json.dumps(document).encode()
