"""One bad line for each command, and some more, typed as a person types it: a process of its own, one line, exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import pytest

from tests.helpers.bad_words import commands, lines
from tests.helpers.limits import SECONDS

ROOT = Path(__file__).resolve().parents[2]
COUNT = 30
LIMITED = ["bash", "-c", f'ulimit -t {SECONDS:.0f}; exec "$@"', "bash"]
"""Of the processor: a command that takes longer is killed."""


def drawn(folder: Path) -> list[tuple[str, list[str]]]:
    """Lines of every command in turn, each with another parameter and another wrong word."""
    found: list[tuple[str, list[str]]] = []
    for turn in range(3):
        for number, command in enumerate(commands()):
            if turn >= len(command.parameters):
                continue
            typed = [
                line for word, line in lines(command, command.parameters[turn], folder) if word.isprintable() and word
            ]
            found += [(command.app, typed[number % len(typed)])] if typed else []
    return list(islice(found, COUNT))


@pytest.mark.timeout(900)  # of the clock; of the processor each has `SECONDS`
def test_bad_lines_end_at_once(tmp_path: Path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "report.json").write_text("{}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / ".import"), "XDG_DATA_HOME": str(tmp_path / "data")}

    def run(asked: tuple[str, list[str]]) -> str | None:
        app, line = asked
        done = subprocess.run(
            [*LIMITED, sys.executable, "-m", f"deltaproof.{app}", *line], cwd=tmp_path, env=environment, capture_output=True,
            text=True, timeout=240, check=False,
        )  # fmt: skip
        good = done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and not done.stdout
        return None if good else f"{app} {' '.join(line)[:200]}: {done.returncode}, {done.stderr[-500:]!r}"

    asked = drawn(tmp_path)
    assert len(asked) == COUNT
    with ThreadPoolExecutor(2) as pool:
        faults = [fault for fault in pool.map(run, asked) if fault]
    assert not faults, "\n".join(faults)
    assert (tmp_path / "file").read_text() == "kept"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "folder", "report.json"]
