"""The command: exit codes, one-line usage errors, crashes of kernels, interruption."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cli.app import app
from deltaproof.verify.run import runner
from deltaproof.verify.run.cache import VerdictStore

ROOT = Path(__file__).resolve().parents[2]
DIES = (
    "all",
    "--target",
    "tests.helpers.wrong_kernels:CRASHING",
    "--rule",
    "gdn",
    "--jobs",
    "1",
    "--property",
    "linearity",
)
WRONG = ("--target", "tests.helpers.wrong_kernels:DOUBLED", "--rule", "linear", "--property", "equality", "--jobs", "1")


def verify(*arguments: str) -> Result:
    return CliRunner().invoke(app, arguments)


def environment() -> dict[str, str]:
    paths = os.pathsep.join([str(ROOT / ".import"), str(ROOT)])
    return {**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, dict[str, Any], Path]:
    """Exit code, content and path of the report on a kernel that is wrong."""
    path = tmp_path_factory.mktemp("report") / "report.json"
    done = verify("all", *WRONG, "--json", str(path))
    return done.exit_code, json.loads(path.read_text()), path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("all", "--rule", "nope"), "gdn2"),
        (("all", "--property", "nope"), "equality"),
        (("all", "--kernel", "nope"), "chunk_train/staged"),
        (("all", "--target", "nope"), "deltaproof"),
        (("replay", "nope"), "<property>@<kernel>"),
        (("replay", "nope.json"), "there is no file nope.json"),
        (("all", "--json", "/dev/null", "--html", "/dev/null"), "two reports are to be written to /dev/null"),
        (("explain", "nope"), "not a"),
        (("all", "--property", "reduction", "--rule", "gdn2"), "nothing to judge"),
    ],
)
def test_bad_words_are_refused_in_one_line(arguments: tuple[str, ...], says: str):
    done = verify(*arguments)
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_help_comes_fast_and_with_examples():
    started = os.times()
    command = [sys.executable, "-X", "importtime", "-m", "deltaproof.verify", "all", "--help"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=True)
    # Of the processor, whoever else is at work.
    assert os.times().children_user - started.children_user < 10
    assert "verify replay" in done.stdout
    assert "deltaproof.verify.cli.commands.replay" in done.stderr
    assert " torch\n" not in done.stderr


def test_what_fails_is_reported_and_replays(report: tuple[int, dict[str, Any], Path]):
    code, content, path = report
    assert code == 1
    (wrong,) = (verdict for verdict in content["verdicts"] if verdict["status"] == "failed")
    assert wrong["kind"] == "structure"
    assert wrong["counterexample"]["replay"].startswith("equality@test/doubled[")
    assert verify("replay", str(path)).exit_code == 1


def test_a_kernel_that_dies_is_a_failure_and_the_run_goes_on(tmp_path: Path):
    path = tmp_path / "report.json"
    done = verify(*DIES, "--json", str(path))
    assert done.exit_code == 1
    verdicts = {verdict["kernel"]: verdict for verdict in json.loads(path.read_text())["verdicts"]}
    assert (verdicts["test/dies"]["status"], verdicts["test/dies"]["kind"]) == ("failed", "memory")
    assert "SIGABRT" in verdicts["test/dies"]["counterexample"]["message"]
    assert verdicts["test/dies"]["counterexample"]["replay"].startswith("linearity@test/dies[")
    assert verdicts["recurrent/tokens"]["status"] == "held"


def test_a_kernel_that_hangs_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(PROFILES, "quick", replace(PROFILES["quick"], cell_seconds=2.0))
    cell = Cell(target="tests.helpers.wrong_kernels:HANGING", kernel="test/hangs", rule="gdn", property="causality")
    settings = runner.Settings(profile="quick", device="interpreter", seed=0, tau=20.0, jobs=1)
    (verdict,) = runner.run([], [cell], settings, VerdictStore(folder=tmp_path), lambda verdict: None)
    assert verdict.status == "unsupported"
    assert "no answer within 2 s" in verdict.notes[0]


def test_explain_shows_every_output():
    done = verify("explain", "error@recurrent/tokens[c64]@kda:bf16:b1:t9:h1x1:k4:v4:ordinary:s0")
    assert done.exit_code == 0
    assert {"o", "ht", "dq", "dk", "dv", "dg", "db", "dh0"} <= {line.split()[0] for line in done.stdout.splitlines()}


def test_an_interrupted_run_keeps_its_verdicts(tmp_path: Path):
    path = tmp_path / "report.json"
    arguments = ["all", "--fresh", "--kernel", "recurrent/*", "--jobs", "1", "--profile", "merge", "--json", str(path)]
    command = [sys.executable, "-m", "deltaproof.verify", *arguments, "--rule", "kda"]
    run = subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert run.stderr is not None
    assert run.stderr.readline().startswith("held: oracle")
    run.send_signal(signal.SIGTERM)
    out, err = run.communicate(timeout=60)
    assert run.returncode == 130, err
    assert "interrupted" in err
    assert json.loads(path.read_text())["verdicts"], out


@pytest.mark.parametrize(
    "arguments", [("mutants", "--list", "--count", "1"), ("explain", "gdn:fp32:b1:t2:h1x1:k2:v2:ordinary:s0")]
)
def test_a_fresh_process_interprets_kernels_without_being_told_to(arguments: tuple[str, ...]):
    bare = {name: value for name, value in environment().items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, "-m", "deltaproof.verify", *arguments]
    done = subprocess.run(command, env=bare, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
