"""Production shapes: what only runs at size runs, and every kernel meets each shape once."""

from __future__ import annotations

import ast

import pytest

from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.production import SHAPES, assigned, problem
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import load
from deltaproof.verify.run.judge import judge_case
from deltaproof.verify.run.known_cases import known_cases
from tests.helpers.wrong_kernels import STAGED

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
