"""A device that one kernel breaks: that case is blamed, no other, and a fresh process goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.replay import Case, Replay
from deltaproof.verify.process import lost_device
from deltaproof.verify.process.lost_device import EXIT_CODE, DeviceLost, noticed
from deltaproof.verify.process.pool import Failure
from deltaproof.verify.run import runner, worker


@pytest.mark.parametrize("well", [True, False])
def test_an_error_is_the_kernels_only_where_the_device_still_answers(well: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lost_device, "answers", lambda device: well)
    expected = ValueError if well else DeviceLost
    with pytest.raises(expected, match="illegal access"), noticed("cuda"):
        raise ValueError("illegal access")
    with pytest.raises(ValueError, match="no such file"), noticed("cpu"):
        raise ValueError("no such file")


def test_what_was_only_queued_is_waited_for(monkeypatch: pytest.MonkeyPatch):
    def synchronize() -> None:
        raise RuntimeError("an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "synchronize", synchronize)
    with pytest.raises(DeviceLost, match="illegal memory access"), noticed("cuda"):
        pass


def test_the_cell_that_lost_it_fails_with_the_case_at_hand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    cell = Cell(target="deltaproof", kernel="chunk_fwd/split", rule="gdn", property="error")
    case = Case(problem=Problem(rule=RULES["gdn"], T=5))
    current = tmp_path / "case"
    current.write_text(Replay(prop="error", kernel=cell.kernel, case=case).token)
    task = worker.CellTask(cell=cell, profile="quick", seed=0, tau=1.0, device="cuda", current=current)

    def lose(task: worker.CellTask) -> None:
        raise DeviceLost("RuntimeError: an illegal memory access was encountered")

    ended: list[int] = []
    monkeypatch.setattr(worker, "_judged", lose)
    monkeypatch.setattr(worker.os, "_exit", ended.append)
    worker.run(task)
    assert ended == [EXIT_CODE]
    verdict = runner._failed(task, Failure(outcome="crash", code=EXIT_CODE), 60.0)
    assert (verdict.status, verdict.kind) == ("failed", "memory")
    assert verdict.counterexample is not None
    assert verdict.counterexample.message == "the device answered no more"
    assert verdict.counterexample.problem == case.problem.token
