"""Calibration counts what it says it counts, and a false alarm is one wherever in a case it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from deltaproof.specs.inputs.regimes import REGIMES
from deltaproof.verify.calibration import calibrate
from deltaproof.verify.calibration.calibrate import (
    DTYPES,
    MeasuredShare,
    Share,
    false_alarms,
    measure,
    shares,
    summarise,
)
from deltaproof.verify.calibration.log import Log
from deltaproof.verify.cases.replay import Replay
from deltaproof.verify.cli.app import app
from deltaproof.verify.execution.harness import Harness

SHARE = Share(
    target="deltaproof", kernels=("recurrent/tokens",), profile="quick", dtype="bf16", regime="strong", problems=3, seed=1
)  # fmt: skip


def test_shares_are_equal_and_enough():
    found = shares("deltaproof", ["recurrent/tokens"], "merge", 5000, 1)
    assert len({(share.dtype, share.regime) for share in found}) == len(found) == len(DTYPES) * len(REGIMES)
    assert len({share.problems for share in found}) == 1
    assert sum(share.problems for share in found) >= 5000


def test_a_share_holds_what_was_asked_for():
    measured = measure(SHARE)
    cases = [Replay.parse(token).case.problem for token in measured.largest]
    assert len(cases) == SHARE.problems
    assert Counter((problem.dtype, problem.regime) for problem in cases) == {("bf16", "strong"): 3}
    assert len({problem.rule.name for problem in cases}) == 3, "rules take turns"
    assert all(0 <= ratio < 24 for ratio in measured.largest.values())


def test_a_nan_that_is_not_first_is_an_alarm(monkeypatch: pytest.MonkeyPatch):
    right = calibrate.row_ratios

    def wrong(harness: Harness, case: object) -> tuple[np.ndarray, float]:
        rows, identity = right(harness, case)  # pyright: ignore[reportArgumentType]
        return np.concatenate([[0.5, np.nan], rows]), identity

    monkeypatch.setattr(calibrate, "row_ratios", wrong)
    found = false_alarms([measure(SHARE)], 24.0, 1, "deltaproof")
    assert found["alarms"] == found["problems"] == 3
    assert found["rate_below"] is None


def test_the_bound_is_the_rule_of_three():
    quiet = MeasuredShare(
        dtype="fp32", regime="fla", ratios={"k": np.ones(4)}, largest={f"t{i}": 1.0 for i in range(300)}
    )
    found = false_alarms([quiet], 24.0, 1, "deltaproof")
    assert (found["alarms"], found["problems"], found["rate_below"]) == (0, 300, 0.01)
    loud = MeasuredShare(dtype="bf16", regime="fla", ratios={"k": np.ones(1)}, largest={"u": 25.0})
    assert false_alarms([quiet, loud], 24.0, 1, "deltaproof")["failing"] == ["u"]
    assert false_alarms([], 24.0, 1, "deltaproof")["rate_below"] is None


def test_tau_follows_from_the_figures():
    measured = MeasuredShare(dtype="fp32", regime="fla", ratios={"k": np.array([1.0, 2.0, 7.0])}, largest={"t": 7.0})
    record = summarise([measured], {}, 0)
    assert record["tau"] >= 14.0
    assert (record["worst"], record["cases"], record["rows"]) == ("t", 1, 3)


def test_measured_shares_are_kept(tmp_path: Path):
    log = Log(folder=tmp_path, digest="sources")
    assert log.get(SHARE) is None
    measured = MeasuredShare(dtype="bf16", regime="strong", ratios={"a/b": np.array([1.5, 0.25])}, largest={"t": 1.5})
    log.put(SHARE, measured)
    found = log.get(SHARE)
    assert found is not None
    assert (found.largest, found.ratios["a/b"].tolist()) == ({"t": 1.5}, [1.5, 0.25])
    assert Log(folder=tmp_path, digest="other sources").get(SHARE) is None
    path = next(tmp_path.iterdir())
    whole = path.read_bytes()
    for damage in (b"", b"torn", whole[:7], whole[: len(whole) // 2], whole[:-1], b"PK" + whole[:-2]):
        path.write_bytes(damage)
        assert log.get(SHARE) is None


def test_an_unknown_kernel_is_one_line():
    answer = CliRunner().invoke(app, ["calibrate", "--kernel", "nothing"])
    assert answer.exit_code == 2
    assert len(answer.stderr.strip().splitlines()) == 1
