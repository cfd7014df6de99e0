"""Who is told how a long run goes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True, kw_only=True)
class Progress:
    """Told how a run goes; the commands show a bar. total: tasks of the phase that begins. step: told of each that ends."""

    begin: Callable[[str, int], object] = field(default=lambda phase, total: None)
    step: Callable[[str], object] = field(default=lambda text: None)
