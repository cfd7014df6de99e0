"""A long run of planted faults keeps what it knows, and gives up a fault that its process does not survive."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from deltaproof.verify.mutants import judge, pool
from deltaproof.verify.mutants.mutant import Mutant
from tests.helpers.mutant_results import result

MUTANT = Mutant(
    engine="deltaproof", id="known", function="somewhere:kernel", stage="tokens", operator="mask", node=0, choice=0, line=1,
    before="a", after="b", guards=(),
)  # fmt: skip


@pytest.fixture
def setting(tmp_path: Path) -> pool.CampaignSettings:
    return pool.CampaignSettings(
        target="deltaproof", tau=24.0, jobs=1, folder=tmp_path, timeout=1.0, profile="quick", digest="sources"
    )


def test_results_survive_a_run_that_dies(tmp_path: Path):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps(asdict(result("killed", id="a"))) + '\n{"id": "b", "oper')
    assert pool.read(log, judge.MutantResult) == {"a": result("killed", id="a")}


def test_only_what_was_cut_short_is_judged_again(setting: pool.CampaignSettings):
    known = [result("killed", id="known"), result("survived", id="cut", reason=f"9 cases {judge.TIMED_OUT}")]
    setting.log.write_text("".join(json.dumps(asdict(each)) + "\n" for each in known))
    judged: list[judge.MutantResult] = []

    def work(mutant: Mutant) -> Any:
        raise LookupError(mutant.id)

    def collect(*mutants: Mutant) -> list[judge.MutantResult]:
        return pool.collect(list(mutants), work, judge.run, pool._crashed, setting, judge.MutantResult, judged.append)

    assert collect(MUTANT) == judged == known[:1]
    with pytest.raises(LookupError, match="cut"):
        collect(replace(MUTANT, id="cut"))


def fills_the_memory(task: judge.MutantTask) -> judge.MutantResult:
    held = bytearray(700 << 20)
    held[::4096] = b"x" * len(held[::4096])
    time.sleep(3)
    raise AssertionError(task)


def never_ends(task: judge.MutantTask) -> judge.MutantResult:
    while True:
        pass


@pytest.mark.parametrize("work", [fills_the_memory, never_ends])
def test_a_fault_whose_process_does_not_end_well_is_given_up(
    setting: pool.CampaignSettings,
    monkeypatch: pytest.MonkeyPatch,
    work: Callable[[judge.MutantTask], judge.MutantResult],
):
    monkeypatch.setattr(pool, "WORKER_BYTES", 600 << 20)
    monkeypatch.setattr(pool, "_ONE_CASE", 1.0)

    def task(mutant: Mutant) -> judge.MutantTask:
        path = setting.folder / "suite"
        return judge.MutantTask(mutant=mutant, suite_path=path, tests=(), target="deltaproof", tau=24.0, timeout=1.0)

    (found,) = pool.collect([MUTANT], task, work, pool._crashed, setting, judge.MutantResult, lambda _: None)
    assert (found.status, found.crashes) == ("excluded", 1)
