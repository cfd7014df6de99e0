"""Tables for the terminal, without borders, in which nothing is cut: what does not fit goes on in the terminal's next line."""

from __future__ import annotations

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

_ANY_WIDTH = 10_000


def grid(*columns: str, left: int = 1) -> Table:
    """A table that fits 80 columns where its cells do. left: how many of its columns hold names; the others hold numbers."""
    found = Table(box=SIMPLE_HEAD, padding=(0, 0), show_edge=False, header_style="bold")
    for number, name in enumerate(columns):
        found.add_column(name, justify="left" if number < left else "right", no_wrap=True)
    return found


def show(console: Console, table: Table) -> None:
    """Print a table as wide as it must be, whatever the width of the console."""
    wide = Console(
        file=console.file,
        width=_ANY_WIDTH,
        force_terminal=console.is_terminal,
        no_color=console.no_color,
        highlight=False,
        emoji=False,
    )
    wide.width = wide.measure(table).maximum
    wide.print(table)
