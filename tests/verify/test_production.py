"""Production shapes: what only runs at size runs, and every kernel meets each shape once."""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from deltaproof.kernels import KERNELS
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.coverage import SIZES, of_problems
from deltaproof.verify.cases.production import SHAPES, assigned, problem
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import load
from deltaproof.verify.properties.base import Property
from deltaproof.verify.run.judge import judge_case
from deltaproof.verify.run.known_cases import known_cases
from deltaproof.verify.run.served_cases import all_served, served_names
from tests.helpers.wrong_kernels import STAGED, TORCH, on_output, spoil

MERGE = PROFILES["merge"]


@pytest.mark.parametrize("among", [tuple(RULES), ("kda",), ("gla", "gdn")])
def test_every_shape_is_met_on_one_rule(among: tuple[str, ...]):
    for kernel in ("chunk_train/staged", "recurrent/pool"):
        met = [shape.name for rule in among for shape in assigned(list(SHAPES), RULES[rule], among, kernel)]
        assert sorted(met) == sorted(SHAPES)


@pytest.mark.parametrize("shape", SHAPES.values(), ids=list(SHAPES))
@pytest.mark.parametrize("rule", ["linear", "gdn2"])
def test_a_kernel_that_takes_little_meets_what_it_takes(shape, rule: str):
    found = problem(
        shape,
        RULES[rule],
        lambda one: (
            not (one.lengths or one.qk_l2norm or one.gate_in_kernel or one.initial_state or one.final_state)
            and one.HV == one.H
        ),
    )
    assert found is not None
    assert shape.fields["K"] == found.K
    assert problem(shape, RULES[rule], lambda one: False) is None


def test_every_chunk_size_has_a_second_chunk_and_a_tail():
    prop = load("equality")
    cells = [
        Cell(target="deltaproof", kernel=STAGED.name, rule=rule, property=prop.name, among=tuple(RULES))
        for rule in RULES
    ]
    cases = [case for cell in cells for case in known_cases(cell, prop, STAGED, MERGE, 0)]
    sizes = {config.chunk_size for config in STAGED.configs(cases[0].problem)}
    long = {
        case.config.chunk_size
        for case in cases
        if case.config is not None and 2 * case.config.chunk_size < case.problem.T < 3 * case.config.chunk_size
    }
    assert long == sizes


def cases_of(prop: Property, kernel: Any, rules: Sequence[str] = ("gdn",)) -> list[Case]:
    """What merge knows of a kernel that computes these rules."""
    cells = [
        Cell(target="deltaproof", kernel=kernel.name, rule=rule, property=prop.name, among=tuple(rules))
        for rule in rules
    ]
    return [case for cell in cells for case in known_cases(cell, prop, kernel, MERGE, 0)]


def _packed_long(o: torch.Tensor, arguments: dict[str, Any]) -> bool:
    boundaries = arguments["cu_seqlens"]
    return boundaries is not None and bool((boundaries.diff() > 512).any())


WRONG: dict[str, tuple[str, Callable[[torch.Tensor, dict[str, Any]], bool]]] = {
    "K = 128, four value heads a key head": (
        "equality", lambda o, x: x["q"].shape[-1] == 128 and o.shape[2] == 4 * x["q"].shape[2],
    ),
    "K = 128, two value heads a key head": (
        "equality", lambda o, x: x["q"].shape[-1] == 128 and o.shape[2] == 2 * x["q"].shape[2],
    ),
    "K = 128, no initial state": ("equality", lambda o, x: x["q"].shape[-1] == 128 and x["initial_state"] is None),
    "K = 64": ("equality", lambda o, x: x["q"].shape[-1] == 64),
    "a long packed sequence": ("equality", _packed_long),
    "many rows of wide heads": (
        "equality", lambda o, x: o.shape[0] * o.shape[2] > 16 and x["q"].shape[-1] >= 64,
    ),
    "a scale above 1": ("equality", lambda o, x: (x["scale"] or 0) > 1),
    "a scale below -1": ("equality", lambda o, x: (x["scale"] or 0) < -1),
    "bf16, K = 128, many tokens": (
        "error", lambda o, x: o.dtype == torch.bfloat16 and x["q"].shape[-1] == 128 and o.shape[1] > 140,
    ),
    "bf16, K = V = 128": (
        "error", lambda o, x: o.dtype == torch.bfloat16 and x["q"].shape[-1] == o.shape[-1] == 128,
    ),
    "bf16, four value heads a key head": (
        "error", lambda o, x: o.dtype == torch.bfloat16 and o.shape[2] == 4 * x["q"].shape[2],
    ),
    "fp16, K = 128": ("error", lambda o, x: o.dtype == torch.float16 and x["q"].shape[-1] == 128),
}  # fmt: skip
"""What a function is wrong with, alone: the property that is to see it, and the calls that it is wrong in."""


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_with_one_combination_is_met(name: str):
    kind, wrong = WRONG[name]
    met: list[bool] = []

    def change(o: torch.Tensor, arguments: dict[str, Any]) -> torch.Tensor:
        met.append(wrong(o, arguments))
        return 2 * o if met[-1] else o

    prop, kernel = load(kind), replace(spoil(TORCH, on_output(change)), op="chunk_fwd", differentiable=False)
    cases = [
        case
        for case in cases_of(prop, kernel)
        if case.problem.K >= 64 or len(case.problem.sequences) > 16 or (case.problem.scale or 0) < -1
    ]
    found = []
    for case in sorted(cases, key=lambda case: case.size):
        met.clear()
        outcome = judge_case(prop, case, Harness(kernel=kernel, tau=20.0))
        assert outcome.status == ("failed" if any(met) else "held"), case.problem.token
        found.append(outcome.status)
        if outcome.status == "failed":
            break
    assert "failed" in found


def test_every_kernel_meets_the_sizes_that_are_asked_for():
    drawn = {"HV / H = 1", "HV / H = 2", "bf16", "fp16"}
    for kernel in (STAGED, TORCH, KERNELS["chunk_fwd/packed"], KERNELS["recurrent/pool"]):
        problems = [case.problem for name in ("equality", "error") for case in cases_of(load(name), kernel)]
        # `endless` asks functions without kernels for many tokens.
        elsewhere = set() if kernel.needs_triton else {"T > 2048"}
        assert set(SIZES) - of_problems(problems) <= drawn | elsewhere, kernel.name


def test_what_tables_serve_is_judged_as_they_serve_it():
    met = {
        name
        for kernel in KERNELS.values()
        for case in cases_of(load("error"), kernel, tuple(RULES))
        for name in served_names(case, kernel)
    }
    assert met == set(all_served("interpreter")) != set()
    assert not all_served("sm_90")


class _OtherAxis(ast.NodeTransformer):
    """program_id(0) becomes program_id(1), which is 0 everywhere on a grid of one axis."""

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if ast.unparse(node) == "tl.program_id(0)":
            return ast.parse("tl.program_id(1)", mode="eval").body
        return node


@pytest.mark.parametrize("kernel", ["fold_kernel"])
def test_a_second_program_that_repeats_the_first_is_found(kernel: str):
    def plant(name: str, tree: ast.Module) -> ast.Module:
        return _OtherAxis().visit(tree) if name.endswith(f":{kernel}") else tree

    prop = load("equality")
    found = []
    for rule in ("gdn",):
        cell = Cell(target="deltaproof", kernel=STAGED.name, rule=rule, property="equality", among=tuple(RULES))
        large = [case for case in known_cases(cell, prop, STAGED, MERGE, 0) if case.problem.B * case.problem.T > 150]
        found += [judge_case(prop, case, Harness(kernel=STAGED, transform=plant)) for case in large]
        assert {judge_case(prop, case, Harness(kernel=STAGED)).status for case in large} == {"held"}
    assert "failed" in {outcome.status for outcome in found}
