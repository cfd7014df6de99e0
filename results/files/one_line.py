"""What somebody else says, as one line of a file or of a report."""

from __future__ import annotations


def folded(said: object) -> str:
    """A text, or what an error says, with one space for every run of blanks."""
    return " ".join(str(said).split())


def told(error: BaseException, most: int = 300) -> str:
    """The type of an error and the first of what it says."""
    return f"{type(error).__name__}: {folded(error)[:most]}"


def one_line(text: str) -> str:
    """What an error says, folded to one printable line of at most 500 characters."""
    line = folded("".join(letter if letter.isprintable() else " " for letter in text))
    return line if len(line) <= 500 else f"{line[:497]}..."
