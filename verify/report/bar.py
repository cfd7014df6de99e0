"""The bar of long work on a terminal: how much is done, how long that took and the rest may take, and the work at hand."""

from __future__ import annotations

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)  # fmt: skip
from rich.table import Column
from rich.text import Text

_WHOLE = Column(no_wrap=True)


def bar(console: Console) -> Progress:
    """Tasks have a field `title`; a description is cut where there is no room for it."""
    return Progress(
        TextColumn("{task.fields[title]}"), BarColumn(bar_width=24), MofNCompleteColumn(table_column=_WHOLE),
        TimeElapsedColumn(table_column=_WHOLE), TextColumn("left"),
        TimeRemainingColumn(compact=True, table_column=_WHOLE), _Description(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


class _Description(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(task.description, no_wrap=True, overflow="ellipsis")
