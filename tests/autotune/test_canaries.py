"""After a change of the toolchain: a few entries are tried again, and what is no longer as it was is said."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from synthetic import FAMILY, ask_none, compile_all, compile_one

from deltaproof.autotune import checking, gate, tune
from deltaproof.autotune.canaries import MOST, canaries, recompile, retime
from deltaproof.autotune.device import Device, Timed
from deltaproof.autotune.gate import Answer
from deltaproof.autotune.ledger import Ledger
from deltaproof.autotune.turns import Bench
from deltaproof.results.gpus import resolve
from deltaproof.results.kernel_digest import kernel_digests
from deltaproof.results.record import Measured
from deltaproof.specs.gpus import gpu

H100 = gpu("h100")
DEVICE = Device(name="made up", arch="sm_90", sm_count=132, memory_gib=79.1, driver="14.0")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(gate, "ask", ask_none)
    monkeypatch.setattr(tune, "compile_points", partial(compile_all, most=None))
    request = tune.Request(
        gpu=H100, ops=["chunk_fwd"], rules=["gdn"], dtypes=["bf16"], dims=[64], jobs=1, out=tmp_path,
        cache=tmp_path / "cache",
    )  # fmt: skip
    tune.tune(request, tune.Hooks())
    return Ledger(tmp_path, resolve("h100"))


def test_canaries_are_few_and_differ(ledger: Ledger):
    some = canaries(ledger.table(), kernel_digests())
    assert 0 < len(some) <= MOST
    assert len({(entry.key.op, entry.config) for entry in some}) == len(some)
    assert not canaries(ledger.table(), {"chunk_fwd": "00" * 8}), "none for other kernels"


def compile_as(change=lambda binary: binary):
    return lambda points: [change(compile_one(point)) for point in points]


def test_equal_machine_code_is_all_there_is_to_know_without_the_gpu(ledger: Ledger):
    some = canaries(ledger.table(), kernel_digests())
    found = recompile(some, ledger.records, H100, compile_as())
    assert (found.same, found.changed, found.dead) == (len(some), 0, 0)


def test_other_machine_code_is_told_with_its_figures(ledger: Ledger):
    some = canaries(ledger.table(), kernel_digests())
    worse = compile_as(lambda binary: replace(binary, code="ff" * 16, registers=binary.registers + 7))
    found = recompile(some, ledger.records, H100, worse)
    assert found.changed == len(some)
    assert all("registers" in line and "->" in line for line in found.lines)
    dead = recompile(some, ledger.records, H100, compile_as(lambda binary: replace(binary, shared=10**6)))
    assert dead.dead == len(some)
    assert all("shared memory" in line for line in dead.lines)


def test_check_tries_them_when_triton_is_another(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking, "compile_here", lambda arch, jobs: compile_as())
    lines, holds = checking.check_table(ledger, H100, lambda target: None, forced=False, jobs=1)
    assert (len(lines), holds) == (1, True), "nothing changed: nothing is tried"
    monkeypatch.setattr(checking, "triton_version", lambda: "99.0")
    lines, holds = checking.check_table(ledger, H100, lambda target: None, forced=False, jobs=1)
    assert holds
    assert "as they were" in lines[-1]
    dead = compile_as(lambda binary: replace(binary, shared=10**6))
    monkeypatch.setattr(checking, "compile_here", lambda arch, jobs: dead)
    lines, holds = checking.check_table(ledger, H100, lambda target: None, forced=False, jobs=1)
    assert not holds
    assert "no longer run" in lines[-1]


def bench(ledger: Ledger, milliseconds: float, *, right: bool = True) -> Bench:
    return Bench(
        gpu=H100, device=DEVICE, timer=lambda *_: Timed(samples=(milliseconds,) * 7),
        judge=lambda question: Answer(question=question, held=right, detail="made up"),
        record=lambda record: ledger.add([record]),
    )  # fmt: skip


def test_on_the_gpu_they_are_gated_and_timed_again_and_that_is_recorded(ledger: Ledger):
    some = canaries(ledger.table(), kernel_digests())
    first = retime(some, ledger.records, bench(ledger, 1.0))
    assert first.changed == len(some), "never timed before"
    assert {entry.tier for entry in ledger.table().entries if entry.key in {one.key for one in some}} == {"A"}
    again = [entry for entry in ledger.table().entries if entry.tier == "A"]
    assert retime(again, ledger.records, bench(ledger, 1.03)).same == len(again)
    slower = retime(again, ledger.records, bench(ledger, 1.2))
    assert slower.changed == len(again)
    wrong = retime(again, ledger.records, bench(ledger, 1.0, right=False))
    assert wrong.dead == len(again)
    assert any(isinstance(record, Measured) and record.driver == "14.0" for record in ledger.records)
    assert FAMILY.op == "chunk_fwd"
