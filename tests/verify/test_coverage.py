"""Coverage is counted from what ran: sizes of calls, second programs along each axis, second trips of each loop."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl
from typer.testing import CliRunner

from deltaproof.specs.problem import Problem
from deltaproof.verify.cases import coverage as counted
from deltaproof.verify.cases.coverage import SIZES, coverage, of_problems
from deltaproof.verify.cases.production import SHAPES, problem
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cli.app import app
from deltaproof.verify.interpreter import session
from deltaproof.verify.interpreter.covering import covering


@triton.jit
def rows_kernel(x, n, C):
    row = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    for c in range(C):
        tl.store(x + row * C + c, c)


def facts(grid: tuple[int, int], columns: int) -> set[str]:
    with covering() as found, session():
        rows_kernel[grid](torch.zeros(grid[0] * grid[1] * max(1, columns)), grid[0], columns)
    return {re.sub(r":\d+$", "", fact) for fact in found}


@pytest.mark.parametrize(
    ("grid", "columns", "more"),
    [
        ((1, 1), 1, set()),
        ((2, 1), 0, {"program rows_kernel x"}),
        ((1, 3), 1, {"program rows_kernel y"}),
        ((1, 1), 2, {"loop rows_kernel"}),
        ((2, 2), 4, {"program rows_kernel x", "program rows_kernel y", "loop rows_kernel"}),
    ],
)
def test_what_ran_more_than_once_is_told_from_what_ran(grid: tuple[int, int], columns: int, more: set[str]):
    found = facts(grid, columns)
    every = {"program rows_kernel x", "program rows_kernel y", "loop rows_kernel"}
    assert {fact.removeprefix("seen ") for fact in found if fact.startswith("seen ")} == every
    assert {fact.removeprefix("more ") for fact in found if fact.startswith("more ")} == more


def test_nothing_is_noted_where_nobody_asks():
    with session():
        rows_kernel[(2, 1)](torch.zeros(4), 2, 2)
    with covering() as found:
        pass
    assert not found


def test_what_must_be_covered_and_is_not_is_named(monkeypatch: pytest.MonkeyPatch):
    cells = [["K = V = 128", "seen loop f:3"], ["seen loop f:3", "more loop f:3", "seen program g x"]]
    found = coverage(cells, ("K = V = 128", "T > 2048"))
    assert (found.missing, found.absent) == (("T > 2048",), ("program g x",))
    assert (found.counts["K = V = 128"], found.ran, found.repeated) == (1, 2, 1)
    assert "not covered: T > 2048; a second program g x" in found.lines()
    monkeypatch.setattr(counted, "CANNOT", {"program g x": "it has one"})
    assert not coverage(cells, ()).absent


def test_the_production_shapes_have_every_size_that_merge_must_have_covered():
    whole = [
        problem(shape, Problem.parse("gdn:fp32:b1:t1:h1x1:k1:v1:ordinary:s0").rule, bool) for shape in SHAPES.values()
    ]
    met = of_problems(one for one in whole if one is not None)
    drawn = {"HV / H = 1", "HV / H = 2", "bf16", "fp16"}
    assert set(PROFILES["merge"].must) == set(SIZES)
    assert set(SIZES) - met <= drawn


def test_a_report_says_what_was_covered(tmp_path: Path):
    path = tmp_path / "report.json"
    words = ["all", "--profile", "quick", "--kernel", "recurrent/tokens", "--rule", "gdn", "--property", "linearity"]
    done = CliRunner().invoke(app, [*words, "--fresh", "--jobs", "1", "--json", str(path)])
    assert done.exit_code == 0, "a selection need not cover all"
    assert "covered: " in done.stdout
    assert "not covered: " in done.stdout
    content = json.loads(path.read_text())
    assert "covered" in content["environment"]
    assert any("seen program tokens_kernel x" in verdict["covered"] for verdict in content["verdicts"])
