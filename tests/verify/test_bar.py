"""The bar of long work keeps its times where a terminal is narrow."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from deltaproof.verify.report.bar import bar


@pytest.mark.parametrize("width", [80, 120])
def test_times_are_shown_whole_and_the_description_is_cut(width: int):
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    live = bar(console)
    live.add_task("scores c64 gdn2:bf16:k128:v128 64x4x2 " * 4, total=1435, completed=17, title="compiling")
    with console.capture() as captured:
        console.print(live.get_renderable())
    (line,) = captured.get().splitlines()
    assert len(line) <= width
    assert re.search(r"compiling .* 17/1435 0:00:00 left \S+ scores c64.*…", line)
    assert "left …" not in line
