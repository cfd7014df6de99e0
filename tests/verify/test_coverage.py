"""Coverage is counted from what ran: sizes of calls, second programs along each axis, second trips of each loop."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from deltaproof.kernels import Kernel
from deltaproof.specs.inputs.make import generate
from deltaproof.specs.problem import Problem
from deltaproof.verify import targets
from deltaproof.verify.cases import coverage as counted
from deltaproof.verify.cases.coverage import SIZES, coverage, of_problems
from deltaproof.verify.cases.production import SHAPES, problem
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.cli.app import app
from deltaproof.verify.execution.execute import run, tensors
from deltaproof.verify.interpreter import session
from deltaproof.verify.interpreter.covering import covering
from deltaproof.verify.targets.launchable import launchable
from deltaproof.verify.verdicts.document import SHORT


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
    assert "ran rows_kernel" in found
    every = {"program rows_kernel x", "program rows_kernel y", "loop rows_kernel"}
    assert {fact.removeprefix("seen ") for fact in found if fact.startswith("seen ")} == every
    assert {fact.removeprefix("more ") for fact in found if fact.startswith("more ")} == more


@triton.jit
def inner(x, at, mask):
    return tl.load(x + at, mask, 0.0) + tl.load(x + at, mask=at >= 0, other=0.0)


@triton.jit
def sided_kernel(x, y, n, DOUBLE: tl.constexpr, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = inner(x, at, at < n)
    if DOUBLE:
        value *= 2
    elif n > 3:
        value += tl.sum(value, 0) if BLOCK > 2 else 1.0
    tl.store(y + at, value, mask=at < n)


SIDED: Any = sided_kernel


@settings(deadline=None, max_examples=25)
@given(n=st.integers(0, 9), double=st.booleans(), block=st.sampled_from([2, 4]))
def test_each_side_of_masks_branches_and_flags_is_told(n: int, double: bool, block: int):
    x, y = torch.ones(max(1, n)), torch.zeros(max(1, n))
    with covering() as found, session():
        SIDED[(triton.cdiv(n, block),)](x, y, n, double, block)
    sides = {fact for fact in found if fact.startswith(("on ", "off "))}
    if not n:
        # A launch without programs has arguments, and runs nothing.
        assert sides == {f"{'on' if double else 'off'} flag sided_kernel DOUBLE"}
        return
    expected = {f"on mask {site}" for site in ("inner:2", "inner:2.2", "sided_kernel:8")}
    expected |= {f"off mask {site}" for site in ("inner:2", "sided_kernel:8") if n % block}
    expected |= {
        f"{'on' if double else 'off'} {site}" for site in ("branch sided_kernel:4", "flag sided_kernel DOUBLE")
    }
    if not double:
        expected.add(f"{'on' if n > 3 else 'off'} branch sided_kernel:6")
    if not double and n > 3:
        expected.add(f"{'on' if block > 2 else 'off'} branch sided_kernel:7")
    assert sides == expected


def test_what_the_language_itself_does_is_nobodys_coverage():
    with covering() as found, session():
        SIDED[(1,)](torch.ones(4), torch.zeros(4), 4, False, 4)
    assert "on branch sided_kernel:7" in found, "it calls tl.sum"
    assert not any(" sum:" in fact for fact in found if not fact.startswith(("seen", "more")))


def test_a_side_that_was_never_seen_is_a_gap_unless_it_cannot_occur(monkeypatch: pytest.MonkeyPatch):
    cells = [["on mask f:3", "on branch f:5"], ["off branch f:5", "on flag f WIDE"]]
    found = coverage(cells, ())
    assert (found.one_sided, found.gaps) == (("off flag f WIDE", "off mask f:3"), True)
    assert found.sides == {"mask": (0, 1), "branch": (1, 1), "flag": (0, 1)}
    assert "covered: both sides of 0 of 1 masks, 1 of 1 branches, 0 of 1 flags" in found.lines()
    assert found.lines()[-1] == "not covered: flag f WIDE false; mask f:3 false"
    monkeypatch.setattr(
        counted, "CANNOT", {"off mask f:3": "the buffer is padded", "off flag f WIDE": "nobody clears it"}
    )
    assert not coverage(cells, ()).gaps


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


def test_kernels_that_nothing_launches_are_named():
    target = targets.load("deltaproof")
    known = launchable(target)
    launched = {
        name for kernel in ("chunk_fwd/split", "recurrent/tokens") for name in _launched(target.kernels[kernel])
    }
    assert "tokens_kernel" in launched < set(known)
    found = coverage([[f"ran {name}" for name in launched]], (), known)
    assert set(found.idle) == set(known) - launched
    assert any("state_grads_kernel, which nothing launched" in line for line in found.lines())


DOUBLING = """
import triton
import triton.language as tl
from tests.helpers.toy_targets import chunk_gdn as right

@triton.jit
def helper(x):
    return 2 * x

@triton.autotune([triton.Config({})], key=[])
@triton.jit
def idle_kernel(x):
    tl.store(x + tl.program_id(0), helper(1.0))

@triton.jit
def double_kernel(x):
    tl.store(x + tl.program_id(0), helper(1.0))

def chunk_gdn(q, k, v, g, beta):
    return right(q, k, v, g, beta)[0]
"""


def test_of_a_function_the_kernels_of_its_module_are_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "doubling.py").write_text(DOUBLING)
    monkeypatch.syspath_prepend(tmp_path)
    assert launchable(targets.load("doubling:chunk_gdn")) == ("double_kernel", "idle_kernel")


def _launched(kernel: Kernel) -> set[str]:
    one = Problem.parse("gdn:fp32:b1:t3:h1x1:k4:v4:ordinary:s0")
    made = tensors(one, generate(one))
    with covering() as found, session():
        run(kernel, Case(problem=one, config=kernel.configs(one)[0]), made, gradients=kernel.differentiable)
    return {fact.removeprefix("ran ") for fact in found if fact.startswith("ran ")}


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
    line = next(line for line in done.stdout.splitlines() if line.startswith("not covered: "))
    assert "nothing launched" not in line, "nor launch every kernel"
    page = tmp_path / "page.html"
    again = CliRunner().invoke(app, ["report", str(path), "--html", str(page)])
    assert (again.exit_code, line in again.stdout) == (0, True)
    assert f"- {line}" in CliRunner().invoke(app, ["report", str(path), "--format", "md"]).stdout
    assert html.escape(line) in page.read_text()
    content = json.loads(path.read_text())
    content["environment"][SHORT] = "yes"
    path.write_text(json.dumps(content))
    assert CliRunner().invoke(app, ["report", str(path)]).exit_code == 3
    assert CliRunner().invoke(app, ["report", str(path), "--allow-unsupported"]).exit_code == 0
    assert "covered" in content["environment"]
    assert any("seen program tokens_kernel x" in verdict["covered"] for verdict in content["verdicts"])
