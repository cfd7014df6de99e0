"""Every parameter of every command, given what it cannot take: one line, exit code 2, and nothing is begun or written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.helpers.bad_words import Command, Parameter, commands, lines
from tests.helpers.limits import answer, limited

PARAMETERS = [(command, parameter) for command in commands() for parameter in command.parameters]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are typed: a file, a folder and a report of theirs are there."""
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    report = {"schema": 1, "environment": {}, "verdicts": [], "summary": {"seconds": 0.0}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path


def snapshot(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize(
    ("command", "parameter"), PARAMETERS, ids=[f"{command.id} {parameter.name}" for command, parameter in PARAMETERS]
)
def test_a_bad_value_is_refused(command: Command, parameter: Parameter, folder: Path, monkeypatch: pytest.MonkeyPatch):
    before = snapshot(folder)
    faults = {}
    for word, line in lines(command, parameter, folder):
        names = [
            parameter.option or parameter.about.metavar or parameter.name,
            ascii(word)[1:20],
            " ".join(word.split())[:20],
        ]
        with limited(monkeypatch):
            wrong = answer(command.app, line).fault(names)
        if snapshot(folder) != before:
            wrong = f"wrote {snapshot(folder).keys() - before.keys() or 'over a file'}"
            before = snapshot(folder)
        if wrong:
            faults[" ".join(line)[:200]] = wrong
    assert not faults, "\n".join(f"{line!r}: {wrong}" for line, wrong in faults.items())
