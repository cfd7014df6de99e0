"""The side-by-side runner, rehearsed on a CPU: what it writes, and that it goes on where it stopped."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    around = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    around |= {"PYTHONPATH": str(HERE.parents[1] / ".import"), "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, str(HERE / script), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, env=around)


def test_a_run_keeps_every_sample_and_goes_on_where_it_stopped(tmp_path: Path):
    arguments = ("--device", "cpu", "--small", "--rule", "gdn", "--op", "forward", "--op", "decode", "--rounds", "3")
    first = run("side_by_side.py", *arguments, "--out", str(tmp_path))
    assert first.returncode == 0, first.stderr
    (folder,) = tmp_path.iterdir()
    documents = {path.name: json.loads(path.read_text()) for path in folder.glob("*.json")}
    assert len(documents) == 3
    for document in documents.values():
        ours = [entry for entry in document["contestants"] if entry["who"] == "deltaproof"]
        assert ours
        for entry in ours:
            assert len(entry["samples_ms"]) == 3
            assert entry["error"] < 1e-5
            assert entry["peak_bytes"] is None
        for entry in document["contestants"]:
            assert ("unable" in entry) != ("samples_ms" in entry)
        assert document["copy"]["bytes"] > 0
    assert (folder / "forward-gdn.svg").stat().st_size > 1000
    table = (folder / "table.md").read_text()
    assert "| forward-gdn-fp32-b1t512h2d64 | " in table
    assert "torch sees no CUDA device" in table and "of processor time" in table
    assert folder.name == "cpu"
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")}
    again = run("side_by_side.py", *arguments, "--out", str(tmp_path))
    assert again.stdout == first.stdout
    assert {path.name: path.stat().st_mtime_ns for path in folder.glob("*.json")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--op", "sideways"), "--op is 'sideways'"),
        (("--device", "cuda"), "there is no CUDA device here"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str, tmp_path: Path):
    done = run("side_by_side.py", *arguments, "--out", str(tmp_path), CUDA_VISIBLE_DEVICES="")
    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def document(ours: list[float], peer: list[float], **more: Any) -> dict[str, Any]:
    def entry(who: str, samples: list[float], error: float | None = 1e-3) -> dict[str, Any]:
        return {"name": f"{who}/x", "who": who, "samples_ms": samples, "error": error, "peak_bytes": 2**20}

    entries = [entry("deltaproof", ours), entry("fla", peer)]
    around = {"device": "D", "driver": "1", "torch": "2"}
    return {
        "work": "forward-gdn-bf16-b1t1h1d64", "op": "forward", "rule": "gdn", "ideal_bytes": 10**6, "environment": around,
        "copy": {"bytes": 10**9, "samples_ms": [1.0]}, "contestants": entries,
    } | more  # fmt: skip


def test_ratios_are_taken_round_by_round_and_only_of_finite_answers(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(HERE))
    import summary  # pyright: ignore[reportMissingImports]

    # A slow round slows both, and says nothing about either.
    assert summary.ratio(document([1.0, 9.0, 1.0], [2.0, 18.0, 2.0])) == 2.0
    wrong = document([1.0], [2.0])
    wrong["contestants"].append({"name": "fla/nan", "who": "fla", "samples_ms": [0.1], "error": None, "peak_bytes": 0})
    assert summary.ratio(wrong) == 2.0
    text = summary.table([document([1.0], [2.0]), document([1.0], [8.0])])
    assert "4.00 times faster (geometric mean of 2), least 2.00" in text
    assert "| 1.000 | 0% |" in text or "| x | 1.000 |" in text
