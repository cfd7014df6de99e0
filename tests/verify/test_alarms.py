"""False alarms are counted as they are: of all that was answered, with the rate that the count refutes, and kept."""

from __future__ import annotations

import json
from dataclasses import replace
from math import comb
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from deltaproof.verify.calibration import alarms
from deltaproof.verify.calibration.alarms import Judged, counts, document, rate_below, sentence
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cli.app import app
from deltaproof.verify.cli.commands import alarms as command
from deltaproof.verify.run.cache import VerdictStore
from deltaproof.verify.verdicts.judgement import Counterexample, Status, Verdict

SMALL = ["alarms", "--seeds", "3-4", "--rule", "gdn", "--property", "oracle", "--profile", "quick", "-j", "1"]


def verdict(status: Status) -> Verdict:
    held = Verdict(
        kernel="a/b", rule="gdn", target="deltaproof", property="error", arithmetic="faithful", status="held", problems=5,
        seconds=0.0, notes=("note",),
    )  # fmt: skip
    found = Counterexample(problem="p", config="c", message="m", replay="r") if status == "failed" else None
    return replace(
        held,
        status=status,
        counterexample=found,
        kind="precision" if found else None,
        notes=() if found else held.notes,
    )


@given(cells=st.integers(1, 400), data=st.data())
def test_the_bound_is_the_rate_at_which_so_few_alarms_are_rare(cells: int, data: st.DataObject):
    count = data.draw(st.integers(0, cells))
    rate = rate_below(count, cells)
    assert rate is not None and count / cells <= rate <= 1
    if count < cells:
        few = sum(comb(cells, k) * rate**k * (1 - rate) ** (cells - k) for k in range(count + 1))
        assert few == pytest.approx(0.05, rel=1e-6)


def test_no_alarm_is_the_rule_of_three_and_no_cell_no_bound():
    assert rate_below(0, 1000) == pytest.approx(3 / 1000, rel=1e-2)
    assert rate_below(0, 0) is None


def test_only_answers_count():
    judged = [
        Judged(seed=seed, verdict=verdict(status))
        for seed, status in enumerate(("held", "held", "failed", "error", "unsupported", "inapplicable"))
    ]  # fmt: skip
    found = counts(judged)
    assert (found["cells"], found["cases"], found["alarms"], found["not_judged"]) == (4, 20, 2, 1)
    report = document(judged, {}, {})
    assert [one["seed"] for one in report["alarms"]] == [2, 3]
    assert [one["seed"] for one in report["not_judged"]] == [4]
    assert sentence(found).startswith("2 false alarms in 4 cells")
    assert counts([])["rate_below"] is None


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(command, "default_folder", lambda: tmp_path / "verdicts")
    return tmp_path


def test_a_long_run_goes_on_where_it_stopped(store: Path, monkeypatch: pytest.MonkeyPatch):
    path = store / "alarms.json"
    first = CliRunner().invoke(app, [*SMALL, "--json", str(path)])
    assert first.exit_code == 0, first.output
    report = json.loads(path.read_text())
    assert (report["summary"]["cells"], report["summary"]["alarms"]) == (2, 0)
    assert report["setting"]["complete"] and report["setting"]["last_seed"] == 4

    def never(*_: object, **__: object) -> None:
        raise AssertionError("judged again")

    monkeypatch.setattr("deltaproof.verify.process.pool.Workers._schedule", never)
    assert CliRunner().invoke(app, [*SMALL, "--json", str(path)]).exit_code == 0
    assert json.loads(path.read_text())["summary"] == report["summary"]


@pytest.mark.parametrize(("status", "code"), [("failed", 1), ("error", 1), ("unsupported", 3)])
def test_what_is_no_answer_and_what_is_a_false_one_end_otherwise(
    store: Path, monkeypatch: pytest.MonkeyPatch, status: Status, code: int
):
    def run(oracle: Any, cells: Any, settings: Any, kept: VerdictStore, take: Any) -> None:
        take(verdict("held"))
        take(verdict(status))

    monkeypatch.setattr(alarms.runner, "run", run)
    answer = CliRunner().invoke(app, SMALL)
    assert answer.exit_code == code
    assert ("2 false alarms in 4 cells" if code == 1 else "2 cells not judged") in " ".join(answer.output.split())


def test_cases_that_no_seed_changes_are_judged_with_the_first(store: Path):
    report = store / "alarms.json"

    def cases(seeds: str) -> int:
        words = ["--seeds", seeds, "--rule", "gdn", "--kernel", "recurrent/tokens", "--property", "equality", "-j", "1"]
        answer = CliRunner().invoke(app, ["alarms", *words, "--profile", "quick", "--json", str(report)])
        assert answer.exit_code == 0, answer.output
        return json.loads(report.read_text())["summary"]["cases"]

    first = cases("3")
    assert PROFILES["quick"].examples <= cases("3-4") - first < first


@pytest.mark.parametrize("seeds", ["4-3", "x", "-1", "1-", str(2**31)])
def test_seeds_are_two_numbers(seeds: str):
    answer = CliRunner().invoke(app, ["alarms", f"--seeds={seeds}"])
    assert answer.exit_code == 2
    assert len(answer.stderr.strip().splitlines()) == 1
