"""What commands print in 80 columns: no word is broken or cut, no name, figure or token is lost."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app as autotune
from deltaproof.verify.cli.app import app as verify
from deltaproof.verify.report.grid import grid, show

ROOT = Path(__file__).resolve().parents[1]
APPS = {"verify": verify, "autotune": autotune}
FRAMES = re.compile("[\u2500-\u257f]")


def words(command: str, columns: int) -> set[str]:
    name, *arguments = command.split()
    done = CliRunner(env={"COLUMNS": str(columns), "NO_COLOR": "1"}).invoke(APPS[name], arguments)
    assert "\x1b" not in done.output
    return set(FRAMES.sub(" ", done.output).split())


def commands(app: typer.Typer) -> list[str]:
    group: Any = typer.main.get_command(app)
    return list(group.commands)


HELP = [f"{name} {command} --help" for name, app in APPS.items() for command in ("", *commands(app))]
SAID = ["verify list", "autotune gpus", "autotune space --rule gdn", "autotune check --gpu H100"]


@pytest.mark.parametrize("command", [*HELP, *SAID])
def test_a_narrow_terminal_breaks_no_word(command: str):
    narrow = words(command, 80)
    assert narrow and not narrow - words(command, 400)


def test_a_report_cuts_no_name_of_a_kernel(tmp_path: Path):
    name = "my_package.kernels:" + "chunk_of_a_long_name_" * 5
    report = (ROOT / "results" / "peers" / "fla-core-0.5.2.json").read_text()
    (tmp_path / "report.json").write_text(report.replace('"chunk_gla"', f'"{name}"'))
    narrow = words(f"verify report {tmp_path / 'report.json'}", 80)
    assert name in narrow and not narrow - words(f"verify report {tmp_path / 'report.json'}", 400)


@given(st.lists(st.tuples(*[st.text("abc:/ ", max_size=60)] * 3), max_size=4), st.integers(1, 120))
def test_a_table_cuts_no_cell(rows: list[tuple[str, str, str]], width: int):
    table = grid("name", "one", "two")
    for row in rows:
        table.add_row(*row)
    shown = io.StringIO()
    show(Console(file=shown, width=width), table)
    text = " ".join(shown.getvalue().split())
    assert all(" ".join(cell.split()) in text for row in rows for cell in row)


def test_every_table_of_the_terminal_is_such_a_one():
    made = {
        path.relative_to(ROOT).as_posix()
        for folder in ("verify", "autotune")
        for path in (ROOT / folder).rglob("*.py")
        if re.search(r"(?<![.\w])Table\(", path.read_text())
    }
    assert made == {"verify/report/grid.py"}
