"""A table for the terminal, without borders."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.table import Table


def grid(*columns: str) -> Table:
    """A table that fits 80 columns: names at the left of it, and numbers that are never broken over lines."""
    found = Table(box=SIMPLE_HEAD, padding=(0, 0), show_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        found.add_column(name, justify="right" if number else "left", no_wrap=True)
    return found
