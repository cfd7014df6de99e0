"""The command line: exit codes, and one line for what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.autotune.cli.app import app
from deltaproof.specs.gpus import gpus

ROOT = Path(__file__).resolve().parents[2]
invoke = CliRunner().invoke


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gpu", "H1000"], ["H1000", "autotune gpus", *gpus()]),
        ([], ["--gpu", *gpus()]),
        (["--gpu", "H100", "--budget", "soon"], ["soon", "30m"]),
        (["--gpu", "H100", "--trials", "0"], ["--trials", "1"]),
        (["--gpu", "H100", "--rule", "gdn3"], ["gdn3", "gdn2"]),
        (["--gpu", "H100", "--op", "chunk"], ["chunk_fwd", "chunk_train"]),
        (["--gpu", "H100", "--dim", "512"], ["512", "256"]),
        (["report", "--gpu", "H1000"], ["H1000"]),
        (["export", "--to", "fla", "--gpu", "H100", "--out", "nowhere", "--from", "nowhere"], ["--from", "nowhere"]),
        (["--gpu", "H100", "--target", "fla", "--mode", "measure"], ["compiled"]),
        (["--gpu", "H100", "--target", "theirs"], ["fla"]),
        (["--gpu", "H100", "--storage", "nonsense"], ["sqlite:///", "postgresql://"]),
        (
            ["--gpu", "H100", "--storage", "postgresql://nobody@127.0.0.1:1/nothing"],
            ["--storage postgresql", "nothing"],
        ),
        (["worker"], ["--storage"]),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(arguments: list[str], words: list[str]):
    result = invoke(app, arguments)
    assert result.exit_code == 2
    assert all(word in result.stderr for word in words)
    assert len(result.stderr.strip().splitlines()) == 1


def test_space_counts_what_each_constraint_removed():
    result = invoke(app, ["space", "--rule", "gdn", "--dim", "64", "--op", "chunk_fwd"])
    assert result.exit_code == 0
    assert "points to compile" in result.stdout


def test_a_report_needs_records(tmp_path: Path):
    result = invoke(app, ["report", "--gpu", "H100", "--out", str(tmp_path)])
    assert result.exit_code == 2
    assert "no records" in result.stderr


def test_a_command_that_only_reads_promises_nothing_where_its_output_is_lost(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(ROOT / ".import"), "XDG_DATA_HOME": str(tmp_path)}
    words = ["report", "--gpu", "H100", "--html", str(tmp_path / "page.html")]
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "deltaproof.autotune", *words]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert done.returncode == 1
    assert done.stderr == "autotune: [Errno 28] No space left on device\n"


def test_t4_files_of_others_are_read_with_suspicion(tmp_path: Path):
    path = tmp_path / "t4.json"
    path.write_text('{"schema_version": "1.0.0", "results": [{"configuration": 1}]}')
    result = invoke(app, ["import", str(path)])
    assert result.exit_code == 2
    assert len(result.stderr.strip().splitlines()) == 1


def test_listing_the_gpus_imports_no_torch():
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[2] / ".import")}
    command = [sys.executable, "-X", "importtime", "-m", "deltaproof.autotune", "gpus"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "deltaproof.autotune" in imported and "torch" not in imported
