"""Kernels that Triton compiles here and now: results are right, nothing is found, and nothing is unsupported.

The suite imports Triton for its interpreter, and what compiles needs a process of its own: one for each architecture.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from deltaproof.verify.cli.app import app

ROOT = Path(__file__).resolve().parents[3]

CHECKED = (
    "softmax", "matmul fp16, 4 warps", "matmul bf16, 8 warps", "matmul int8, 4 warps", "matmul fp32 as tf32", "attention",
    "order and scans", "atomics", "conversions", "integers", "tensor descriptors made on the device",
    "tensor descriptors made on the host", "inline assembly",
)  # fmt: skip
"""What every run of the suite compiles; `features.py` has more, and `make ptx-features` runs all of it."""


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    known = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
        env=known | {"PYTHONPATH": f"{ROOT / '.import'}{os.pathsep}{ROOT}", **environment},
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _the_environment_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", os.environ["TRITON_INTERPRET"])


def launch(*arguments: str | Path) -> Result:
    """`verify launch` in this process, where nothing is compiled."""
    return CliRunner().invoke(app, ["launch", *map(str, arguments)])


@pytest.mark.parametrize("arch", [90, 80])
def test_features_compute_what_they_should_and_keep_the_rules(arch: int):
    result = run("-m", "tests.verify.ptx.run_features", str(arch), *CHECKED)
    assert result.returncode == 0, result.stderr[-2000:]
    rows = [json.loads(line) for line in result.stdout.splitlines()]
    assert [row["feature"] for row in rows] == list(CHECKED)
    for row in rows:
        assert not row["wrong"] and not row["faults"], row


def test_the_command_finds_the_race_of_the_example_and_none_where_it_is_corrected(tmp_path: Path):
    out = tmp_path / "launch.json"
    race = run("-m", "deltaproof.verify", "launch", "examples/one_race.py:call", "--json", str(out))
    assert race.returncode == 1 and "global-" in race.stdout and "one_race.py:1" in race.stdout
    (launch,) = json.loads(out.read_text())["launches"]
    assert launch["findings"] and launch["differences"] and launch["traffic"]["programs"] == 4
    clean = run("-m", "deltaproof.verify", "launch", "examples/one_race.py:corrected", "--device", "sm_80")
    assert clean.returncode == 0 and "no fault" in clean.stdout


UNJUDGED = """
import torch, triton, triton.language as tl

@triton.jit
def fill(x, SIZE: tl.constexpr, ASM: tl.constexpr):
    at = tl.arange(0, SIZE)
    value = at
    if ASM:
        value = tl.inline_asm_elementwise("vadd.s32.s32.s32 $0, $1, $1;", "=r,r", [at], dtype=tl.int32, is_pure=True, pack=1)
    tl.store(x + at, value)

def nothing():
    fill[(0,)](torch.empty(64, dtype=torch.int32), SIZE=64, ASM=False)

def unknown():
    fill[(1,)](torch.empty(64, dtype=torch.int32), SIZE=64, ASM=True)

def both():
    nothing()
    fill[(1,)](torch.empty(64, dtype=torch.int32), SIZE=64, ASM=False)
"""


@pytest.mark.parametrize(
    ("call", "code", "says"),
    [
        ("nothing", 3, "1 launch on sm_90, 0.0 s in the engine: no verdict"), ("unknown", 3, "no verdict, 1 not judged"),
        ("both", 0, "2 launches on sm_90"),
    ],
)  # fmt: skip
def test_what_did_not_run_is_neither_clean_nor_at_fault(call: str, code: int, says: str, tmp_path: Path):
    (tmp_path / "script.py").write_text(UNJUDGED)
    result = run("-m", "deltaproof.verify", "launch", f"{tmp_path / 'script.py'}:{call}")
    assert (result.returncode, says in result.stdout) == (code, True), result.stdout + result.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nothing.py:call"], "no file"), (["no_such_module:call"], "cannot import"),
        (["examples/one_race.py:absent"], "no function"),
        (["examples/one_race.py:call", "--device", "sm_75"], "accepted"), (["pyproject.toml:x"], "cannot import"),
    ],
)  # fmt: skip
def test_bad_usage_ends_with_one_line(arguments: list[str], says: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(ROOT)
    result = launch(*arguments)
    assert result.exit_code == 2 and says in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


SHARED = """
from deltaproof.verify.ptx.launch import judging
from examples.one_race import call, corrected
passed = set()
for run in (call, corrected, corrected, call):
    with judging(90, passed=passed) as verdicts:
        run()
    print(len(passed), bool(verdicts[0].faults))
"""


def test_a_program_that_passed_is_run_once_more_and_its_race_is_still_found():
    result = run("-c", SHARED)
    assert result.returncode == 0, result.stderr[-2000:]
    assert result.stdout.splitlines() == ["0 True", "1 False", "1 False", "1 True"]


def test_what_the_assembler_makes_of_ptx_is_judged_too(tmp_path: Path):
    from .stored import read

    whole = tmp_path / "kernel.ptx"
    whole.write_text(read("descriptor_dropped"))
    found = launch(whole)
    assert "by ptxas" in found.stdout
    if "ptxas 12.8" in found.stdout:
        assert found.exit_code == 1 and "register-unwritten" in found.stdout
    whole.write_text(read("descriptor_dropped").replace(".version 8.", ".version 99."))
    foreign = launch(whole)
    assert foreign.exit_code == 2 and len(foreign.stderr.strip().splitlines()) == 1


def test_ptx_that_is_cut_and_no_compiler_end_with_one_line(tmp_path: Path):
    from .stored import read

    whole = tmp_path / "kernel.ptx"
    whole.write_text(read("scores_in_flight"))
    found = launch(whole)
    assert found.exit_code == 1 and "lint-operand-reuse" in found.stdout
    elsewhere = launch(whole, "--device", "sm_100")
    assert (elsewhere.exit_code, elsewhere.stdout) == (2, "") and len(elsewhere.stderr.strip().splitlines()) == 1
    whole.write_text(read("scores_in_flight")[:5000])
    cut = launch(whole)
    assert cut.exit_code == 2 and len(cut.stderr.strip().splitlines()) == 1
    whole.write_text(read("scores_in_flight").replace(".version 8.", ".version 99."))
    foreign = launch(whole)
    assert foreign.exit_code == 1 and "not assembled" in foreign.stdout and "refuses it" in foreign.stderr
    none = run(
        "-m",
        "deltaproof.verify",
        "launch",
        "examples/one_race.py:call",
        CC="no-such-compiler",
        XDG_CACHE_HOME=str(tmp_path),
    )
    assert none.returncode == 2 and "C compiler" in none.stderr and len(none.stderr.strip().splitlines()) == 1
