"""How a run shows itself: a bar with an estimate of the time left on a terminal, otherwise a line now and then."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import Progress as Bar
from rich.progress import TaskID

from ...verify.process.progress import Progress
from ...verify.report.bar import bar
from ..tune import Hooks

EVERY = 30.0
"""Seconds between lines where there is no terminal."""


@contextmanager
def shown(console: Console) -> Iterator[Hooks]:
    """Hooks that write to `console`."""
    live = bar(console)
    state = _State(live, console)
    with live:
        yield Hooks(
            say=lambda line: console.print(line, soft_wrap=True, markup=False),
            warn=lambda line: console.print(f"warning: {line}", soft_wrap=True, markup=False),
            progress=Progress(begin=state.begin, step=state.step),
        )


class _State:
    def __init__(self, bar: Bar, console: Console) -> None:
        self._bar, self._console = bar, console
        self._task: TaskID | None = None
        self._title, self._total, self._done = "", 0, 0
        self._started = self._told = time.monotonic()

    def begin(self, title: str, total: int) -> None:
        if self._task is not None:
            self._bar.remove_task(self._task)
        self._task = self._bar.add_task("", total=total, title=title)
        self._title, self._total, self._done = title, total, 0
        self._started = self._told = time.monotonic()

    def step(self, text: str) -> None:
        self._done += 1
        assert self._task is not None
        self._bar.update(self._task, advance=1, description=text)
        now = time.monotonic()
        if not self._console.is_terminal and now - self._told > EVERY:
            self._told = now
            left = (now - self._started) / self._done * (self._total - self._done)
            self._console.print(f"{self._title}: {self._done} of {self._total}, about {left:.0f} s left", markup=False)
