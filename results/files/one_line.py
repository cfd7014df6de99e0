"""Somebody else's text as one line of a file or of a report."""

from __future__ import annotations


def folded(said: object) -> str:
    """A text, or the message of an error, with one space for every run of blanks."""
    return " ".join(str(said).split())


def told(error: BaseException, most: int = 300) -> str:
    """The type of an error and the beginning of its message."""
    return f"{type(error).__name__}: {folded(error)[:most]}"


def one_line(text: str) -> str:
    """The message of an error, folded to one printable line of at most 500 characters."""
    line = folded("".join(letter if letter.isprintable() else " " for letter in text))
    return line if len(line) <= 500 else f"{line[:497]}..."
