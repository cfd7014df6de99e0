"""A whole run without its compiler: what it writes, that a second one writes the same, and what a budget leaves."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.autotune import tune
from deltaproof.autotune.cli.app import app
from deltaproof.autotune.compile.stage import CompiledPoints
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.records import findings
from deltaproof.autotune.records.ledger import Ledger
from deltaproof.autotune.reports.page import page
from deltaproof.autotune.space.points import breadth_first, points_of
from deltaproof.kernels.configs.launch_config import LaunchConfig
from deltaproof.results import lookup
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.evidence.derive import derive
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.strict import TableError
from deltaproof.results.schema.table import read_table
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Compilation
from tests.helpers.synthetic import FAMILY, ask_none, compile_all, compile_one


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gate, "ask", ask_none)

    def run(most: int | None = None) -> tune.Report:
        monkeypatch.setattr(tune, "compile_points", partial(compile_all, most=most))
        request = tune.Request(
            gpu=gpu("h100"), ops=["chunk_fwd"], rules=["gdn"], dtypes=["fp32"], dims=[64], jobs=1, out=tmp_path,
            cache=tmp_path / "cache",
        )  # fmt: skip
        return tune.tune(request, tune.Hooks())

    return run


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_a_second_run_writes_nothing_new(run, tmp_path: Path):
    first = run()
    assert not first.failed
    before = contents(tmp_path)
    run()
    assert contents(tmp_path) == before


def test_entries_say_what_they_are(run):
    report = run()
    assert report.table.entries
    for entry in report.table.entries:
        assert (entry.tier, entry.gate) == ("C", "interpreter"), "not timed, and the device gate still owed"
        assert entry.verdict
        assert entry.default_loss is not None
        assert entry.neighbour_loss is not None
        assert entry.resources.shared <= gpu("h100").arch.shared_per_block


def test_the_table_is_what_its_records_amount_to(run, tmp_path: Path):
    report = run()
    ledger = Ledger(tmp_path, resolve("h100"))
    assert read_table(report.table_path) == derive(ledger.records, ledger.gpu, kernel_digest)


def test_lookup_serves_tier_c_to_those_who_ask_for_it(run, tmp_path: Path):
    run()
    call = {"rule": "gdn", "dtype": "fp32", "K": 64, "V": 64, "tokens": 8192, "heads": 16, "gpu": "h100"}
    assert lookup("chunk_fwd", **call, min_gate="interpreter", tables=tmp_path / "tables").tier == "C"
    assert lookup("chunk_fwd", **call, tables=tmp_path / "tables").tier != "C"


def test_a_gpu_that_nobody_tuned_for_gets_what_is_safe_everywhere(run, tmp_path: Path):
    run()
    call = {"rule": "gdn", "dtype": "fp32", "K": 64, "V": 64, "tokens": 8192, "heads": 16, "gpu": "l40s"}
    answer = lookup("chunk_fwd", **call, min_gate="interpreter", tables=tmp_path / "tables")
    assert (answer.source, answer.tier) == ("portfolio", "portfolio")
    assert answer.expected_loss is not None
    assert lookup("chunk_fwd", **call, tables=tmp_path / "tables").source == "default", "it ran nowhere yet"


def test_a_budget_leaves_work_says_so_and_the_next_run_finishes(run, tmp_path: Path):
    short = run(most=20)
    assert [(row.key, row.count) for row in short.table.left] == [(FAMILY.key(), sum(short.compiled.left.values()))]
    assert short.table.entries, "what is nearest to the default is compiled first"
    finished = run().table_path.read_bytes()
    assert run(most=20).table == short.table, "and what is left is left again"
    assert run().table_path.read_bytes() == finished
    (tmp_path / "records" / "h100-sxm" / "chunk_fwd.jsonl").unlink()
    assert run().table_path.read_bytes() == finished, "as if it had never been cut short"


def test_a_budget_that_reaches_nothing_takes_nothing_away(run):
    whole = run().table
    assert run(most=0).table.entries == whole.entries


def test_the_table_is_that_of_the_last_run_whatever_came_before(run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Another Triton refuses what the first had found best; then the first comes back."""
    first = run()
    best = {LaunchConfig.parse(entry.config) for entry in first.table.entries}
    refused = {point for config in best for point in points_of(FAMILY, config) if not point.is_default}

    def compile_less(points, *_, **hooks) -> CompiledPoints:
        found = {point: compile_one(point) for point in breadth_first(points)}
        found |= dict.fromkeys(refused & found.keys(), Compilation(outcome="compile", seconds=0.1, detail="no longer"))
        for point, binary in found.items():
            hooks["on_point"](point, binary)
        return CompiledPoints(found=found, left={}, ran=len(found))

    before = first.table_path.read_bytes()
    with monkeypatch.context() as another:
        another.setattr(findings, "triton_version", lambda: "99.0")
        another.setattr(tune, "compile_points", compile_less)
        second = tune.tune(first.request, tune.Hooks())
        assert not second.failed
        for entry in second.table.entries:
            assert entry.triton == "99.0"
            assert not refused & set(points_of(FAMILY, LaunchConfig.parse(entry.config))), entry.config
        held = contents(tmp_path)
        tune.tune(first.request, tune.Hooks())
        assert contents(tmp_path) == held
    assert run().table_path.read_bytes() == before


def test_a_failed_gate_is_a_failed_run_and_its_configurations_are_not_served(
    run,
    monkeypatch: pytest.MonkeyPatch,
):
    def refuse(questions, jobs):
        return [
            gate.GateAnswer(question=question, held=question.token.startswith("c64"), detail="no")
            for question in questions
        ]

    monkeypatch.setattr(gate, "ask", refuse)
    report = run()
    assert report.failed == any(not answer.held for answer in report.answers)
    served = {entry.config.partition(",")[0] for entry in report.table.entries if "solver" not in entry.config}
    assert served <= {"c64"}


def test_damaged_records_stop_a_run_in_one_line(run, tmp_path: Path):
    run()
    path = next(tmp_path.rglob("*.jsonl"))
    path.write_text("{}\n" + path.read_text())
    with pytest.raises(TableError, match="line 1") as error:
        run()
    assert "\n" not in str(error.value)


def test_the_page_stands_alone_and_is_the_same_every_time(run, tmp_path: Path):
    run()
    ledger = Ledger(tmp_path, resolve("h100"))
    text = page(ledger)
    assert "duplicate" in text
    assert "spill" in text
    for heading in ("Coverage", "Search history", "Which parameters matter", "Against the roofline"):
        assert heading in text
    assert "<script" not in text
    assert 'src="http' not in text
    assert 'href="http' not in text
    assert page(ledger) == text


def test_check_finds_out_who_edits_a_table(run, tmp_path: Path):
    path = run().table_path
    arguments = ["check", "--gpu", "H100", "--out", str(tmp_path)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    path.write_text(path.read_text().replace('"milliseconds": 0', '"milliseconds": 1', 1))
    assert CliRunner().invoke(app, arguments).exit_code == 1
    path.write_text(path.read_text()[:-20])
    assert CliRunner().invoke(app, arguments).exit_code == 2
