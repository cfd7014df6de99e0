"""After an edit: entries whose programs are the same are carried over, and the others are left and named."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deltaproof.autotune import tune
from deltaproof.autotune.cli.app import app
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.records.ledger import Ledger
from deltaproof.autotune.tables import gate as compiled_gate
from deltaproof.autotune.tables import rekey
from deltaproof.autotune.tables.check import check_table
from deltaproof.autotune.tables.rekey import stale_entries
from deltaproof.results.digests import kernels as kernel_digest
from deltaproof.results.schema.gpus import resolve
from deltaproof.results.schema.record import Compiled, Gated
from deltaproof.results.schema.table import read_table
from deltaproof.results.schema.token import variant_of
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Cache
from deltaproof.verify.process.progress import Progress
from tests.helpers.synthetic import FAMILY, ask_none, compile_all

H100 = gpu("h100")
SHIPPED = Path(kernel_digest.__file__).parents[1] / "tables" / "h100-sxm.json"
STAGE = "packed_walk"
"""Of the variant `packed` alone."""


@pytest.fixture
def tuned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Records and a table whose programs are known."""
    monkeypatch.setattr(tune, "compile_points", compile_all)
    monkeypatch.setattr(gate, "ask", ask_none)
    tune.tune(
        tune.Request(
            gpu=H100, ops=[FAMILY.op], rules=[FAMILY.rule], dtypes=[FAMILY.dtype], dims=[FAMILY.K], jobs=1, out=tmp_path,
            cache=tmp_path / "cache",
        ),
        tune.Hooks(),
    )  # fmt: skip
    return tmp_path


def edit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Edit one stage's kernel, so that its digest changes."""
    digests = dict(kernel_digest.stage_digests())
    kernel_digest.forget_digests()
    monkeypatch.setattr(kernel_digest, "stage_digests", lambda: digests | {STAGE: "ee" * 8})
    # Nothing assembled what is made up.
    monkeypatch.setattr(rekey, "ptxas_version", lambda target: None)


@pytest.fixture
def edited(tuned: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The same, after an edit."""
    edit(monkeypatch)
    return tuned


@pytest.fixture(autouse=True)
def afterwards():
    yield
    kernel_digest._digest.cache_clear()


def carry_over(folder: Path, monkeypatch: pytest.MonkeyPatch, *, other_program: bool) -> rekey.RekeyOutcome:
    compiled: set[str] = set()

    def compile_again(points, *rest: object, **hooks):
        compiled.update(point.stage for point in points)
        done = compile_all(points, *rest, on_point=lambda *_: None)
        found = {
            point: replace(one, program="dd" * 16) if other_program and point.stage == STAGE else one
            for point, one in done.found.items()
        }
        return replace(done, found=found)

    monkeypatch.setattr(rekey, "compile_points", compile_again)
    ledger = Ledger(folder, resolve("h100"))
    outcome = rekey.rekey(ledger, H100, Cache(folder=folder / "cache"), jobs=1, progress=Progress())
    assert compiled <= {STAGE}, "what was not edited is not compiled again"
    return outcome


def test_exactly_the_entries_that_launch_an_edited_kernel_are_stale(edited: Path):
    table = read_table(SHIPPED)
    launching = [entry for entry in table.entries if variant_of(entry.config) == "packed"]
    assert 0 < len(launching) < len(table.entries)
    assert stale_entries(table) == launching


def test_what_compiles_to_the_same_program_is_carried_over(edited: Path, monkeypatch: pytest.MonkeyPatch):
    before = Ledger(edited, resolve("h100")).written()
    outcome = carry_over(edited, monkeypatch, other_program=False)
    assert (outcome.stale, outcome.carried, outcome.left) == (len(stale_entries(before)), outcome.stale, [])
    assert outcome.stale
    assert stale_entries(outcome.table) == []
    assert [(entry.key, entry.config, entry.default_loss) for entry in outcome.table.entries] == [
        (entry.key, entry.config, entry.default_loss) for entry in before.entries
    ]
    again = carry_over(edited, monkeypatch, other_program=False)
    assert again.stale == 0 and again.table == outcome.table


def test_other_tritons_under_which_entries_had_passed_are_named(tuned: Path, monkeypatch: pytest.MonkeyPatch):
    ledger = Ledger(tuned, resolve("h100"))
    ledger.add(
        Gated(
            key=replace(entry.key, tokens=0, heads=0), config=entry.config, kernel=entry.kernel, triton=triton,
            where="compiled", held=True, schedules=("in order",),
        )
        for entry in ledger.written().entries for triton in (entry.triton, "3.6.99")
    )  # fmt: skip
    before = ledger.write_table()
    assert all("3.6.99" in entry.passed_under for entry in before.entries)
    edit(monkeypatch)
    monkeypatch.setattr(rekey, "compile_points", partial(compile_all, on_point=lambda *_: None))
    done = CliRunner().invoke(app, ["rekey", "--gpu", "h100", "--out", str(tuned)])
    assert done.exit_code == 0, done.output
    assert (
        "0 left; what passed under Triton 3.6.99 is to be judged again: "
        f"run `autotune gate --gpu h100-sxm --out {tuned}`" in done.output
    )


def test_another_program_is_left_and_named(edited: Path, monkeypatch: pytest.MonkeyPatch):
    outcome = carry_over(edited, monkeypatch, other_program=True)
    assert outcome.stale and not outcome.carried
    assert outcome.left and all("another program" in line and "packed" in line for line in outcome.left)
    assert not stale_entries(outcome.table), "what is stale is in no table that is written"
    assert compiled_gate.ranked_by(Ledger(edited, resolve("h100")).records)


def test_without_a_record_of_the_program_nothing_is_carried_over(edited: Path, monkeypatch: pytest.MonkeyPatch):
    for path in edited.glob("records/*/*.jsonl"):
        path.write_text(re.sub(r'"program": "[0-9a-f]*"', '"program": ""', path.read_text()))
    outcome = carry_over(edited, monkeypatch, other_program=False)
    assert outcome.stale and not outcome.carried
    assert all("no record of its program" in line for line in outcome.left)


def test_what_an_interrupted_run_compiled_since_is_not_what_was_judged(edited: Path, monkeypatch: pytest.MonkeyPatch):
    ledger = Ledger(edited, resolve("h100"))
    since = [
        replace(one, kernel="ee" * 8, program="dd" * 16)
        for one in ledger.records
        if isinstance(one, Compiled) and one.stage == STAGE
    ]
    assert since
    ledger.add(since)
    outcome = carry_over(edited, monkeypatch, other_program=True)
    assert outcome.stale and not outcome.carried
    assert all("another program" in line for line in outcome.left)


def test_a_table_without_entries_does_not_hold(tmp_path: Path):
    ledger = Ledger(tmp_path, resolve("l40s"))
    assert not ledger.write_table().entries
    lines, holds = check_table(ledger, gpu("l40s"), lambda _: None, forced=False, jobs=1)
    assert not holds and f"has no entries: run `autotune --gpu l40s --out {tmp_path}`" in lines[0]
