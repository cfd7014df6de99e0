"""Runs write to the user's folder, on top of what ships; `autotune publish` alone changes what ships, once it is checked."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from deltaproof.autotune import tune
from deltaproof.autotune.cli.app import app
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.records.ledger import Ledger, default_out
from deltaproof.results.evidence.archive import compress, decompress, shipped_records
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.record import Estimated, Gated, Measured, Ranking
from deltaproof.verify.compile.programs import triton_version
from tests.helpers.synthetic import ask_none, compile_all

H100 = resolve("h100")
FAMILY = ("--gpu", "H100", "--mode", "compile", "-j", "1", "--dim", "64", "--dtype", "fp32", "--op", "chunk_fwd")


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, list(map(str, arguments)))


def refused(result: Result) -> str:
    assert (result.exit_code, type(result.exception)) == (2, SystemExit), result.output
    assert len(result.stderr.strip().splitlines()) == 1
    return result.stderr


@pytest.fixture
def results(shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """`results/` of a checkout of this test's own."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    root = tmp_path / "checkout"
    (root / "results").mkdir(parents=True)
    for name, data in files(shipped).items():
        (root / "results" / name).write_bytes(data)
    monkeypatch.setattr("deltaproof.results.files.packaged.files", lambda package: root / "results")
    monkeypatch.setattr("deltaproof.results.files.checkout.checkout", lambda: root)
    return root / "results"


@pytest.fixture
def tuned(results: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Tunes one rule, its compiler and gate made up; the user's folder."""
    monkeypatch.setattr(gate, "ask", ask_none)
    monkeypatch.setattr(tune, "compile_points", partial(compile_all, most=60))

    def run(rule: str = "gdn") -> Path:
        assert invoke(*FAMILY, "--rule", rule).exit_code == 0
        return default_out()

    return run


def test_a_run_writes_to_the_folder_of_the_user_alone(tuned, results: Path):
    before = files(results)
    mine = tuned()
    assert mine.is_relative_to(results.parents[1] / "data")
    assert {"tables/h100-sxm.json", "records/h100-sxm/chunk_fwd.jsonl"} <= set(files(mine))
    for command in ("report", "check"):
        assert invoke(command, "--gpu", "H100").exit_code == 0
    assert files(results) == before


def test_publishing_moves_the_table_its_records_and_the_portfolio(tuned, results: Path):
    mine = tuned()
    written = (mine / "tables" / "h100-sxm.json").read_bytes()
    records = Ledger(mine, H100).records
    done = invoke("publish", "--gpu", "H100")
    assert done.exit_code == 0, done.output
    assert re.search(r"published: \d+ entries of \d+ records in ", done.stdout)
    ship = files(results)
    assert ship["tables/h100-sxm.json"] == written and "tables/portfolio.json" in ship
    assert list(shipped_records("h100-sxm")) == records
    assert not [name for name in files(mine) if "h100" in name and not name.startswith("studies")]
    assert invoke("check", "--gpu", "H100").exit_code == 0
    assert files(results) == ship


def test_what_ships_is_where_the_next_run_goes_on(tuned, results: Path):
    tuned()
    assert invoke("publish", "--gpu", "H100").exit_code == 0
    first = files(results)
    mine = tuned()
    assert not list(mine.rglob("*.jsonl")), "nothing new was found"
    assert "nothing to publish" in refused(invoke("publish", "--gpu", "H100"))
    tuned("kda")
    own = (mine / "records" / "h100-sxm" / "chunk_fwd.jsonl").read_text()
    assert '"rule": "kda"' in own and '"rule": "gdn"' not in own
    assert invoke("publish", "--gpu", "H100").exit_code == 0
    table = json.loads((results / "tables" / "h100-sxm.json").read_text())
    assert {entry["rule"] for entry in table["entries"]} == {"gdn", "kda"}
    assert files(results) != first


@pytest.mark.parametrize("to", ["t4", "python"])
def test_a_table_that_ships_is_exported_without_one_of_the_user(tuned, results: Path, tmp_path: Path, to: str):
    tuned()
    assert invoke("publish", "--gpu", "H100").exit_code == 0
    done = invoke("export", "--to", to, "--gpu", "H100", "--out", tmp_path / "there")
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "there").iterdir())


def test_a_table_that_its_records_do_not_give_is_not_published(tuned, results: Path):
    mine = tuned()
    before, path = files(results), mine / "tables" / "h100-sxm.json"
    table = json.loads(path.read_text())
    table["entries"][0]["config"] = "c16"
    path.write_text(json.dumps(table))
    done = invoke("publish", "--gpu", "H100")
    assert done.exit_code == 1
    assert "nothing was published" in done.stdout
    assert files(results) == before


def test_an_installed_package_is_not_published_into(tuned, results: Path, monkeypatch: pytest.MonkeyPatch):
    tuned()
    before = files(results)
    monkeypatch.setattr("deltaproof.results.files.checkout.checkout", lambda: None)
    assert "checkout" in refused(invoke("publish", "--gpu", "H100"))
    assert files(results) == before


def test_no_run_writes_into_what_ships(results: Path):
    before = files(results)
    assert "publish" in refused(invoke(*FAMILY, "--out", results))
    assert files(results) == before


def test_records_of_a_device_are_published_as_plain_lines(tuned, results: Path):
    ledger = Ledger(tuned(), H100)
    guess = next(record for record in ledger.records if isinstance(record, Estimated))
    about: dict[str, Any] = {"config": guess.config, "kernel": guess.kernel, "triton": triton_version(), "driver": "1"}
    passed = Gated(key=replace(guess.key, tokens=0, heads=0), **about, where="device", held=True)
    time = Measured(
        key=guess.key, **about, samples=(1e-6,), device="made up", protocol="events-3", resources=guess.resources
    )
    ledger.add([passed, time])
    assert any(entry.tier == "A" for entry in ledger.write_table().entries)
    ledger.write_portfolio()
    assert invoke("publish", "--gpu", "H100").exit_code == 0
    lines = (results / "records" / "h100-sxm" / "device.jsonl").read_text().splitlines()
    assert [json.loads(line)["kind"] for line in lines] == ["gated", "measured"]
    archived = decompress((results / "records" / "h100-sxm.jsonl.xz").read_bytes(), "archive")
    assert passed not in archived and time not in archived
    assert invoke("check", "--gpu", "H100").exit_code == 0


def test_records_of_other_kernels_stay_behind(tuned, results: Path):
    mine = tuned()
    journal = mine / "records" / "h100-sxm" / "chunk_fwd.jsonl"
    old = re.sub(r'"kernel": "[0-9a-f]{16}"', f'"kernel": "{"00" * 8}"', journal.read_text())
    count = len(journal.read_text().splitlines())
    journal.write_text(old + journal.read_text())
    assert invoke("publish", "--gpu", "H100").exit_code == 0
    records = [record for record in shipped_records("h100-sxm") if record.kernel != "00" * 8]
    assert len(records) == count
    assert all(isinstance(one, Ranking) for one in shipped_records("h100-sxm") if one not in records)


@pytest.mark.parametrize("command", ["report", "check", "gate", "rekey", "export"])
@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"{}", lambda data: compress([])[:-1]])
def test_a_damaged_archive_ends_a_command_in_one_line(tuned, results: Path, tmp_path: Path, command: str, damage):
    tuned()
    assert invoke("publish", "--gpu", "H100").exit_code == 0
    path = results / "records" / "h100-sxm.jsonl.xz"
    path.write_bytes(damage(path.read_bytes()))
    more = ["--to", "t4", "--out", tmp_path / "there"] if command == "export" else []
    assert "packaged records/h100-sxm.jsonl.xz: the archive is damaged" in refused(
        invoke(command, "--gpu", "H100", *more)
    )
