"""After a change of the toolchain: a few entries are tried again, and what is no longer as it was is said."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from deltaproof.autotune import tune
from deltaproof.autotune.gates import interpreter as gate
from deltaproof.autotune.gates.interpreter import GateAnswer
from deltaproof.autotune.records.ledger import Ledger
from deltaproof.autotune.tables import check as checking
from deltaproof.autotune.timing.canaries import MOST, canaries, recompile, retime
from deltaproof.autotune.timing.device import PROTOCOL, Device, Timed
from deltaproof.autotune.timing.shared_trials import Bench
from deltaproof.results.digests.kernels import kernel_digest
from deltaproof.results.schema.entry import TableEntry
from deltaproof.results.schema.gpus import Resources, resolve
from deltaproof.results.schema.record import Gated, Measured
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.programs import triton_version
from tests.helpers.synthetic import FAMILY, ask_none, compile_all, compile_one

H100 = gpu("h100")
DEVICE = Device(name="made up", arch="sm_90", sm_count=132, memory_gib=79.1, driver="14.0")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    monkeypatch.setattr(gate, "ask", ask_none)
    monkeypatch.setattr(tune, "compile_points", partial(compile_all, most=None))
    request = tune.Request(
        gpu=H100, ops=["chunk_fwd"], rules=["gdn"], dtypes=["fp32"], dims=[64], jobs=1, out=tmp_path,
        cache=tmp_path / "cache",
    )  # fmt: skip
    tune.tune(request, tune.Hooks())
    return Ledger(tmp_path, resolve("h100"))


def test_canaries_are_few_and_differ(ledger: Ledger):
    some = canaries(ledger.table())
    assert 0 < len(some) <= MOST
    assert len({(entry.key.op, entry.config) for entry in some}) == len(some)
    others = [replace(entry, kernel="00" * 8) for entry in ledger.table().entries]
    assert not canaries(replace(ledger.table(), entries=tuple(others))), "none for other kernels"


def compile_as(change=lambda binary: binary):
    return lambda points: [change(compile_one(point)) for point in points]


def test_equal_machine_code_is_all_there_is_to_know_without_the_gpu(ledger: Ledger):
    some = canaries(ledger.table())
    found = recompile(some, ledger.records, H100, compile_as())
    assert (found.same, found.changed, found.dead) == (len(some), 0, 0)


def test_other_machine_code_is_told_with_its_figures(ledger: Ledger):
    some = canaries(ledger.table())
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
    assert "unchanged" in lines[-1]
    dead = compile_as(lambda binary: replace(binary, shared=10**6))
    monkeypatch.setattr(checking, "compile_here", lambda arch, jobs: dead)
    lines, holds = checking.check_table(ledger, H100, lambda target: None, forced=False, jobs=1)
    assert not holds
    assert "no longer run" in lines[-1]


def bench(ledger: Ledger, milliseconds: float, *, right: bool = True) -> Bench:
    return Bench(
        gpu=H100, device=DEVICE, timer=lambda *_: Timed(samples=(milliseconds,) * 7),
        judge=lambda question: GateAnswer(question=question, held=right, detail="made up"),
        record=lambda record: ledger.add([record]),
    )  # fmt: skip


def test_what_was_never_timed_is_said_to_be_so(ledger: Ledger):
    some = canaries(ledger.table())
    assert retime(some, ledger.records, bench(ledger, 1.0)).changed == len(some)
    assert ledger.table().entries and all(entry.tier == "C" for entry in ledger.table().entries)


@pytest.fixture
def timed(ledger: Ledger) -> Ledger:
    """Three configurations at one size, under another driver: the best, one that is nearly as good, and the default."""
    for config, milliseconds in (("c32", 1.0), ("c16", 1.02), ("c64", 2.0)):
        kernel = kernel_digest(FAMILY.key(), config)
        about: dict[str, Any] = {"kernel": kernel, "triton": triton_version(), "driver": "13.0"}
        ledger.add([
            Gated(key=FAMILY.key(), config=config, **about, where="device", held=True),
            Measured(key=FAMILY.key(2048, 16), config=config, **about, samples=(milliseconds,) * 7, device=DEVICE.name,
                     protocol=PROTOCOL, resources=Resources(shared=1024, registers=8192, threads=128)),
        ])  # fmt: skip
    ledger.write_table()
    return ledger


def answers(ledger: Ledger) -> list[TableEntry]:
    """The table on disk, but for which gate was the last."""
    return [replace(entry, verdict="ab" * 8) for entry in ledger.written().entries]


def test_on_the_gpu_times_only_warn(timed: Ledger, monkeypatch: pytest.MonkeyPatch):
    """The default is now the faster one of the two; what c16 takes now nobody knows."""
    now = {"c32": 5.0, "c64": 0.5}
    present = replace(
        bench(timed, 1.0), timer=lambda family, size, config, best: Timed(samples=(now[config.token],) * 7)
    )
    monkeypatch.setattr(checking, "canaries", lambda table: [one for one in table.entries if one.tier == "A"])
    monkeypatch.setattr(checking, "bench_of", lambda *_: nullcontext(present))
    before = answers(timed)
    lines, holds = checking.check_table(timed, H100, lambda target: DEVICE, forced=False, jobs=1)
    assert holds
    assert any("c32: 5 ms, +400.0% of what it was" in line for line in lines)
    assert "1 of 1 re-tested entries changed" in lines[-1]
    assert answers(timed) == before
    now["c32"] = 1.01
    assert "unchanged" in checking.check_table(timed, H100, lambda target: DEVICE, forced=False, jobs=1)[0][-1]


def test_on_the_gpu_what_is_wrong_now_is_out(timed: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checking, "canaries", lambda table: [one for one in table.entries if one.tier == "A"])
    monkeypatch.setattr(checking, "bench_of", lambda *_: nullcontext(bench(timed, 1.0, right=False)))
    lines, holds = checking.check_table(timed, H100, lambda target: DEVICE, forced=False, jobs=1)
    assert not holds
    assert "no longer run" in lines[-1]
    assert [entry.config for entry in timed.written().entries if entry.tier == "A"] == ["c16"]


def test_times_under_a_driver_that_comes_back_have_the_last_word_again(timed: Ledger):
    first = [record for record in timed.records if isinstance(record, Measured)]
    timed.add(replace(record, driver="14.0", samples=(3.0,) * 7) for record in first)
    assert {entry.driver for entry in timed.table().entries if entry.tier == "A"} == {"14.0"}
    timed.add(first)
    assert {(entry.driver, entry.config) for entry in timed.table().entries if entry.tier == "A"} == {("13.0", "c32")}
    count = len(timed.records)
    timed.add(first)
    assert len(timed.records) == count
