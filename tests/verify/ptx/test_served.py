"""`verify all` and `verify replay` on compiled code: our kernels pass, and what races fails with the rule and the line."""

from __future__ import annotations

import json
from pathlib import Path

from .test_compiled import run

RACE = "@chunk_fwd/packed[c64,variant=packed,scores=64x4x2]@gdn:bf16:b1:t150:h1x1:k128:v128:ordinary:s0"
"""Two asynchronous products read one buffer of which Triton lets a copy take the place before both are over."""


def verify(*arguments: str):
    return run("-m", "deltaproof.verify", *arguments)


def test_a_served_kernel_passes_and_is_reported_like_any_other(tmp_path: Path):
    out = tmp_path / "report.json"
    asked = ("--kernel", "chunk_fwd/packed", "--rule", "gdn", "--property", "memory", "--property", "causality")
    done = verify("all", "--profile", "quick", "--device", "sm_90", "--fresh", "-j", "1", *asked, "--json", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(out.read_text())
    verdicts = {verdict["property"]: verdict for verdict in report["verdicts"]}
    assert {verdict["arithmetic"] for verdict in verdicts.values()} == {"sm_90"}
    assert all(verdict["status"] == "held" and verdict["problems"] for verdict in verdicts.values())
    assert report["environment"]["device"] == "sm_90"


def test_a_race_of_the_compiled_program_fails_with_its_rule_and_line(tmp_path: Path):
    out = tmp_path / "report.json"
    done = verify("replay", f"memory{RACE}", "--device", "sm_90", "--json", str(out))
    assert done.returncode == 1, done.stdout + done.stderr
    (verdict,) = json.loads(out.read_text())["verdicts"]
    message = verdict["counterexample"]["message"]
    assert "operand-in-flight" in message and "packed.py:" in message and " byte " in message
    assert f"replay: verify replay --device sm_90 'memory{RACE}'" in " ".join(done.stdout.split())
    # Without asynchronous products there is no such race.
    assert verify("replay", f"memory{RACE}", "--device", "sm_80").returncode == 0


def test_a_function_of_any_module_is_judged_as_compiled():
    asked = ("--target", "tests.verify.ptx.racing:chunk_gdn", "--property", "memory", "--profile", "quick", "-j", "1")
    done = verify("all", "--device", "sm_80", *asked)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "global-" in done.stdout and "racing.py:" in done.stdout


def test_equality_as_compiled_is_not_asked_of_others():
    token = "equality@chunk_gdn[c64]@gdn:bf16:b1:t150:h1x1:k128:v128:ordinary:s0"
    done = verify("replay", token, "--device", "sm_90", "--target", "tests.verify.ptx.racing:chunk_gdn")
    assert (done.returncode, done.stdout) == (2, "") and "chunk_gdn is not ours" in done.stderr


def test_what_cannot_be_judged_as_compiled_is_said_so():
    done = verify("replay", f"offsets{RACE}", "--device", "sm_90")
    assert done.returncode == 2 and "cannot be judged with --device sm_90" in done.stderr
