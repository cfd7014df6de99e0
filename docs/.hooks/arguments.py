"""Docstrings for the site: each argument, a line that begins with `name: ` in the source, becomes a paragraph of its own."""

from __future__ import annotations

import re

from griffe import Extension, Object

_ARGUMENT = re.compile(r"^[ \t]*(\w+(?:, \w+)*): (?=\S)", re.M)


class Arguments(Extension):
    """An extension of griffe, which reads the docstrings."""

    def on_object(self, *, obj: Object, **_: object) -> None:
        if obj.docstring is not None:
            obj.docstring.value = paragraphs(obj.docstring.value)


def paragraphs(text: str) -> str:
    """The docstring, with a blank line before every argument and its name in code. Sections with headings stay as they are."""
    if re.search(r"^(Args|Returns|Raises|Yields):$", text, re.M):
        return text
    return _ARGUMENT.sub(lambda found: f"\n`{found[1]}`: ", text)
