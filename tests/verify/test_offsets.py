import ast
import resource
from dataclasses import replace

import pytest

from deltaproof.specs.problem import Problem
from deltaproof.verify.cases.case import Case
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.localise.locate import localise
from deltaproof.verify.properties.offsets import OFFSETS
from deltaproof.verify.run.judge import judge_case
from tests.helpers.wrong_kernels import SPLIT, STAGED, TOKENS

PROBLEM = Problem.parse("gdn2:fp32:b1:t4:h1x1:k4:v4:ordinary:s0")


class _Narrow(ast.NodeTransformer):
    """x.to(tl.int64) becomes x."""

    def visit_Call(self, node):
        self.generic_visit(node)
        match node:
            case ast.Call(func=ast.Attribute(value=value, attr="to"), args=[target]) if (
                ast.unparse(target) == "tl.int64"
            ):
                return value
        return node


def outcome(kernel, transform=None, problem=PROBLEM):
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    return judge_case(OFFSETS, case, Harness(kernel=kernel, transform=transform))


@pytest.mark.parametrize("kernel", [STAGED, SPLIT, TOKENS], ids=lambda kernel: kernel.name)
def test_offsets_of_64_bits_hold(kernel):
    assert outcome(kernel).status == "held"


def test_offsets_of_32_bits_are_found():
    problem = replace(PROBLEM, qk_l2norm=True)
    found = outcome(
        SPLIT, lambda name, tree: _Narrow().visit(tree) if name.endswith(":l2norm_kernel") else tree, problem
    )
    assert found.status == "failed" and "overflow" in found.message


def test_a_fault_in_offsets_is_localised_without_copies():
    def narrow(name, tree):
        return _Narrow().visit(tree) if name.endswith(":l2norm_kernel") else tree

    case = Case(problem=replace(PROBLEM, qk_l2norm=True), config=SPLIT.configs(PROBLEM)[0])
    harness = Harness(kernel=SPLIT, transform=narrow)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = localise(
        lambda one: judge_case(OFFSETS, one, harness), case, judge_case(OFFSETS, case, harness), harness, seconds=5
    )
    assert found.stage == "l2norm"
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000
