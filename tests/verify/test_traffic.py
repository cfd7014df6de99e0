"""`verify bytes`: the counts of our kernels, and the promises that rest on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.verify.cli.app import app


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["bytes", *arguments])
    return done.exit_code, done.output


PACKED = {"gdn2": 2.01, "kda": 2.35, "gdn": 3.0}
"""The most that the two kernels of `packed` may move for 128 tokens, over the least possible."""


@pytest.mark.parametrize("options", ["", "l2norm,gate"])
def test_forward_moves_no_more_than_promised(tmp_path: Path, options: str):
    path = tmp_path / "bytes.json"
    code, text = run("--kernel", "chunk_fwd/packed", "--kernel", "chunk_fwd/fused", "--tokens", "128",
                     *(("--options", options) if options else ()), "--json", str(path))  # fmt: skip
    assert code == 0, text
    found = {(call["problem"].split(":")[0], call["kernel"]): call for call in json.loads(path.read_text())["calls"]}
    assert len(found) == 6
    for (rule, kernel), call in found.items():
        # Parameters of the gate are read once, and spread over few tokens here.
        assert call["ratio"] <= (1.0 if kernel == "chunk_fwd/fused" else PACKED[rule]) + 1e-9, (
            rule,
            kernel,
            call["ratio"],
        )
        assert call["requested"] >= call["unique"] >= call["ideal"]
    if not options:
        assert found["gdn2", "chunk_fwd/fused"]["ideal"] == 2048


def test_a_decoding_step_moves_every_state_once_each_way(tmp_path: Path):
    path = tmp_path / "bytes.json"
    code, text = run("--decode", "--batch", "3", "--channels", "64", "--kernel", "recurrent/tokens",
                     "--kernel", "recurrent/pool", "--rule", "gdn2", "--json", str(path), "--stages")  # fmt: skip
    assert code == 0, text
    stages = {stage["stage"]: stage for call in json.loads(path.read_text())["calls"] for stage in call["stages"]}
    state = 4 * 64 * 64
    for name in ("tokens_kernel", "pool_kernel"):
        stage = stages[name]
        assert stage["launches"] == 1
        assert stage["read"] + stage["written"] == pytest.approx(2 * state + 64 * (7 * 2 + 4) - 2 * 64, rel=0.01)
    assert "tokens_kernel" in text


def test_a_step_of_training_moves_no_more_than_written_down(tmp_path: Path):
    path = tmp_path / "bytes.json"
    code, text = run("--backward", "--rule", "gdn2", "--tokens", "64", "--config", "c32", "--json", str(path))
    assert code == 0, text
    calls = json.loads(path.read_text())["calls"]
    assert [(call["kernel"], call["keeps"]) for call in calls] == [
        ("chunk_train/staged", keeps) for keeps in (False, True)
    ]
    for call, ratio in zip(calls, (3.8, 3.05), strict=True):
        # Per token: the six inputs twice and their gradients, 1792 bytes each time; the output and its gradient, 256 each.
        assert call["ideal"] == 5888
        # Both passes together find out once where the chunks lie.
        assert sum(stage["launches"] for stage in call["stages"] if stage["stage"].startswith("torch.")) == 1
        assert call["ideal"] < call["unique"] <= ratio * call["ideal"] <= call["requested"]
    again, kept = calls
    # Two stages of nine; three operands and the writes, 256 bytes each, a state and a decay in fp32 for 32 tokens.
    assert [sum(stage["launches"] for stage in call["stages"]) for call in calls] == [10, 8]
    assert kept["saved"] - again["saved"] == 4 * 256 + (2 * 128 * 128 + 4 * 128) / 32
    assert "kept" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--backward", "--decode"), "neither --decode nor another --device"),
        (("--backward", "--device", "sm_90"), "neither --decode nor another --device"),
        (("--rule", "nonsense"), "unknown rule 'nonsense'"),
        (("--dtype", "fp8"), "--dtype is 'fp8'"),
        (("--options", "fast"), "--options is 'fast'"),
        (("--config", "x64"), "not the token of a launch configuration"),
        (("--kernel", "nothing"), "nothing to count"),
        (("--target", "nobody"), "unknown target 'nobody'"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(arguments: tuple[str, ...], message: str):
    code, text = run(*arguments)
    assert code == 2
    assert message in " ".join(text.split())
