"""A failure says where it comes from: the stage a fault was planted in, or the pattern that it leaves."""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from deltaproof.kernels import KERNELS, Kernel
from deltaproof.kernels.configs.launch_config import STAGES, LaunchConfig, Tile
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RELATIVES, RULES
from deltaproof.verify import properties
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.replay import Case, Replay
from deltaproof.verify.cli.app import app
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.localise.locate import HOST, Localised, localise
from deltaproof.verify.localise.needs import needs
from deltaproof.verify.localise.outputs import describe
from deltaproof.verify.report.text import print_report
from deltaproof.verify.run.judge import judge_case, judge_one
from deltaproof.verify.verdicts.judgement import Verdict
from tests.helpers.toy_package import toy
from tests.helpers.wrong_kernels import STAGED, TOKENS, at_token, on_gradient, on_output, spoil

NARROW = LaunchConfig(chunk_size=16, **dict.fromkeys(STAGES, Tile(block=16)))
KDA = Problem(rule=RULES["kda"], T=3, K=17, V=3, H=1, HV=2, seed=3, qk_l2norm=True, gate_in_kernel=True)
GDN2 = Problem(rule=RULES["gdn2"], T=3, K=3, V=2, seed=3)


def found(
    prop: str,
    kernel: Kernel,
    problem: Problem,
    transform: Callable[..., Any] | None = None,
    calls: int = 0,
    config: LaunchConfig = NARROW,
) -> Localised:
    case = Case(problem=problem, config=config)
    harness = Harness(kernel=kernel, kernels=KERNELS, tau=24.0, transform=transform)

    def check(other: Case) -> Any:
        return judge_case(properties.load(prop), other, harness)

    outcome = check(case)
    assert outcome.status == "failed"
    located = localise(check, case, outcome, harness, calls=calls)
    assert not re.search(r"first (faulty )?stage|stage at fault", located.story, re.IGNORECASE), "reports say it, once"
    return located


class Edit(ast.NodeTransformer):
    """Replaces every expression of a text by another."""

    def __init__(self, old: str, new: str) -> None:
        self._old, self._new = old, new
        self.done = 0

    def generic_visit(self, node: ast.AST) -> ast.AST:
        written = isinstance(getattr(node, "ctx", None), ast.Store)
        if isinstance(node, ast.expr) and not written and ast.unparse(node) == self._old:
            self.done += 1
            return ast.copy_location(ast.parse(self._new, mode="eval").body, node)
        return super().generic_visit(node)


def edit(function: str, old: str, new: str) -> Callable[[str, ast.Module], ast.Module]:
    """A transform that makes one edit in one device function, and insists that there is something to edit."""

    def transform(name: str, tree: ast.Module) -> ast.Module:
        if not name.endswith(f":{function}"):
            return tree
        change = Edit(old, new)
        tree = change.visit(tree)
        assert change.done
        return ast.fix_missing_locations(tree)

    return transform


class DoubleStores(ast.NodeTransformer):
    def visit_Call(self, node: ast.Call) -> ast.AST:
        if ast.unparse(node.func) == "tl.store":
            node.args[1] = ast.BinOp(left=node.args[1], op=ast.Mult(), right=ast.Constant(2.0))
        return node


def double_stores(kernel: str) -> Callable[[str, ast.Module], ast.Module]:
    def transform(name: str, tree: ast.Module) -> ast.Module:
        return ast.fix_missing_locations(DoubleStores().visit(tree)) if name.endswith(f":{kernel}_kernel") else tree

    return transform


@pytest.mark.parametrize(
    "stage",
    [
        "l2norm", "activate", "scores", "operands", "states", "output", "state_grads", "score_grads", "input_grads", "fold",
        "activate_grad", "l2norm_grad",
    ],
)  # fmt: skip
def test_a_fault_in_any_stage_is_named(stage: str):
    located = found("equality", STAGED, KDA, double_stores(stage))
    assert located.stage == stage
    assert (
        "Wrong for the inputs that they received, too" not in located.story
    )  # the stages after it only pass the error on


@pytest.mark.parametrize(
    ("kernel", "stage"),
    [
        ("recurrent/tokens", "tokens"),
        ("chunk_fwd/split", "states"),
        ("chunk_fwd/packed", "packed_scores"),
        ("chunk_fwd/packed", "packed_walk"),
    ],
)
def test_inference_kernels_have_stages_too(kernel: str, stage: str):
    assert found("equality", KERNELS[kernel], GDN2, double_stores(stage)).stage == stage


@pytest.mark.parametrize(
    ("stage", "transform"),
    [
        *((stage, double_stores(stage)) for stage in ("group_bounds", "packed_scores", "packed_walk")),
        ("group_maps", edit("group_maps_kernel", "1.0", "2.0")),
        ("group_starts", edit("group_starts_kernel", "moved", "2 * moved")),
    ],
)
def test_groups_have_stages_too(stage: str, transform: Callable[..., Any]):
    grouped = replace(NARROW, variant="packed", group=1)
    several = replace(GDN2, T=2 * grouped.group_tokens + 1)
    located = found("equality", KERNELS["chunk_fwd/grouped"], several, transform, config=grouped)
    assert located.stage == stage
    assert "Wrong for their own inputs, too" not in located.story


@pytest.mark.parametrize("rule", list(RULES))
def test_operands_of_a_walk_are_right_where_the_walk_is_wrong(rule: str):
    problem = replace(GDN2, rule=RULES[rule], T=4, lengths=(0, 1, 3))
    for change in ({}, {"lengths": None}, {"qk_l2norm": True}):
        located = found(
            "equality", KERNELS["chunk_fwd/packed"], replace(problem, **change), double_stores("packed_walk")
        )
        assert located.stage == "packed_walk"
        assert "Wrong for their own inputs, too" not in located.story


@pytest.mark.parametrize("rule", list(RULES))
def test_stages_that_are_right_are_called_right(rule: str):
    problem = replace(KDA, rule=RULES[rule], T=4, gate_in_kernel=False, lengths=(0, 1, 3))
    located = found("equality", spoil(STAGED, on_output(lambda o, _: o * 2)), problem)
    assert located.stage == HOST


def test_rounding_is_told_from_a_wrong_formula():
    rounded = edit("output_kernel", "out.to(o.dtype.element_ty)", "out.to(tl.bfloat16).to(tl.float32)")
    located = found("error", STAGED, GDN2, rounded)
    assert located.stage == "output"
    assert "rounding, not the formula" in located.story


def test_a_stage_is_named_under_a_relative_of_the_rules():
    carve = Problem(rule=RELATIVES["carve"], T=3, K=3, V=2, seed=3)
    located = found("relative", STAGED, carve, double_stores("output"))
    assert located.stage == "output"
    assert "exact" not in located.story.lower()


def test_a_shared_device_function_is_suspected():
    short = edit("load_operand", "channel[None, :] < WIDTH", "channel[None, :] < WIDTH - 1")
    located = found("equality", STAGED, GDN2, short, calls=24)
    assert located.stage == "states"
    assert "state_grads" in located.story
    assert "load_operand" in located.story


def test_an_access_out_of_bounds_is_blamed_on_its_kernel():
    beyond = edit("score_grads_kernel", "row[:, None] < rows", "row[:, None] < rows + 1")
    located = found("memory", STAGED, GDN2, beyond)
    assert located.stage == "score_grads"
    assert "out of bounds" in located.story


def test_an_output_that_nobody_writes_is_blamed_on_who_should():
    unwritten = edit("state_grads_kernel", "inside_v", "inside_v & (row[:, None] > 0)")
    assert found("error", STAGED, GDN2, unwritten).stage == "state_grads"


def test_a_read_of_what_nobody_should_write_is_blamed_on_the_reader():
    packed = replace(GDN2, lengths=(0, 3))  # its table of chunks has room for one that is not there
    located = found("memory", STAGED, packed, edit("output_kernel", "rows == 0", "rows < 0"))
    assert located.stage == "output"
    assert "nothing has written" in located.story


def test_a_kernel_that_raises_is_named():
    assert found("equality", STAGED, GDN2, edit("output_kernel", "tl.program_id(2)", "nothing")).stage == "output"


def test_what_is_passed_on_wrongly_is_told():
    def other_scale(right: Callable[..., Any], arguments: dict[str, Any]) -> Any:
        return right(**{**arguments, "scale": 0.5})

    located = found("equality", spoil(STAGED, other_scale), GDN2)
    assert located.stage == HOST
    assert "is given scale 0.5" in located.story


def test_the_pattern_and_the_need_of_a_failure_are_told():
    doubled = spoil(STAGED, on_output(lambda o, _: at_token(o, 16, 2.0)))
    located = found("equality", doubled, replace(GDN2, T=18, initial_state=False), calls=24)
    assert "only token 16 (where chunk 1 begins)" in located.story
    assert "It needs a second chunk" in located.story
    assert "initial state" not in located.story


def test_one_wrong_gradient_is_told_apart():
    located = found("equality", spoil(STAGED, on_gradient("g", lambda dg: dg * 2)), GDN2)
    assert "of the gradients dg is wrong" in located.story


@pytest.mark.parametrize(
    ("fails", "says"),
    [
        (lambda problem: problem.K & (problem.K - 1), ["a K that is no power of two"]),
        (lambda problem: problem.K > 16, ["K above 16"]),
        (lambda problem: problem.T > 16 and problem.strided, ["a second chunk", "inputs that are not contiguous"]),
        (lambda problem: problem.T > 18, ["at least 19 tokens"]),
        (lambda problem: problem.HV > problem.H, ["more value heads than key heads"]),
        (lambda problem: True, []),
    ],
)
def test_needs_are_what_a_failure_is_gone_without(fails: Callable[[Problem], Any], says: list[str]):
    problem = replace(GDN2, T=19, K=20, HV=2, strided=True, regime="reset_inf", scale=1.0)
    case = Case(problem=problem, config=NARROW)
    assert needs(case, lambda other: bool(fails(other.problem)), 24) == says
    assert needs(case, lambda other: bool(fails(other.problem)), 0) == []


@pytest.mark.parametrize(
    ("T", "fails", "says"),
    [(2060, 2000, "more than 1024 tokens"), (2049, 2048, "more than 2048 tokens"), (2001, 2000, "at least 2001 tokens"),
     (1500, 1100, "more than 1024 tokens"), (1500, 300, "more than 256 tokens"), (2000, 16, "a second chunk")],
)  # fmt: skip
def test_the_tokens_that_a_failure_needs_are_told(T: int, fails: int, says: str):
    case = Case(problem=replace(GDN2, T=T), config=NARROW)
    assert needs(case, lambda other: fails < other.problem.T, 24) == [says]


@given(calls=st.integers(0, 30), fails=st.booleans())
def test_no_more_cases_are_asked_than_calls_allow_and_sizes_are_first(calls: int, fails: bool):
    case = Case(problem=replace(GDN2, T=300, K=20, V=33, H=2, HV=4, B=2, strided=True, dtype="bf16"), config=NARROW)
    asked: list[Problem] = []

    def check(other: Case) -> bool:
        asked.append(other.problem)
        return fails

    needs(case, check, calls)
    assert len(asked) <= calls
    sizes = [(problem.T, problem.K, problem.V) != (300, 20, 33) for problem in asked]
    assert sizes == sorted(sizes, reverse=True)


TOY = Problem(rule=RULES["linear"], T=6, K=4, V=17, H=2, HV=2, initial_state=False, final_state=False)


def test_a_kernel_of_others_is_described_by_its_pattern():
    located = found("equality", toy(last=16), TOY, calls=24)
    assert located.stage == "toy_attention"
    assert "only channels from 16 on" in located.story
    assert "It needs V above 16" in located.story
    located = found("equality", toy(forget=4), TOY)
    assert "from token 4 on" in located.story
    assert "toy_attention" in located.story


def test_right_kernels_of_others_are_not_blamed():
    case = Case(problem=TOY, config=LaunchConfig())
    harness = Harness(kernel=toy(), kernels={}, tau=24.0)
    assert judge_case(properties.load("equality"), case, harness).status == "held"


def mask(shape: tuple[int, ...], *where: Any) -> np.ndarray:
    made = np.zeros(shape, dtype=bool)
    if where:
        made[where] = True
    return made


@pytest.mark.parametrize(
    ("masks", "says"),
    [
        ({"o": mask((1, 40, 2, 4), slice(None), slice(16, None))}, "from token 16 on (where chunk 1 begins)"),
        ({"dk": mask((1, 40, 2, 4), slice(None), slice(None, 32))}, "none after token 31 (token 15 of chunk 1), not in the last"),
        ({"o": mask((1, 40, 2, 4), slice(None), slice(None), 1)}, "in every head but the first"),
        ({"o": mask((1, 40, 2, 4), slice(None), [3, 19, 35])}, "always at place 3 of a chunk"),
        ({"o": mask((1, 40, 2, 4), ...), "ht": mask((1, 2, 4, 4))}, "o is wrong, ht is right"),
        ({"o": mask((1, 40, 2, 4)), "dq": mask((1, 40, 2, 4), ...)}, "the forward pass is right and every gradient is wrong"),
        ({"ht": mask((1, 2, 4, 4), slice(None), slice(None), 2)}, "only key channel 2"),
        ({"o": mask((1, 40, 2, 4))}, ""),
    ],
)  # fmt: skip
def test_patterns_have_names(masks: dict[str, np.ndarray], says: str):
    problem = Problem(rule=RULES["gdn2"], T=40, H=2, HV=2, K=4, V=4)
    text = describe(problem, masks, 16)
    assert says.lower() in text.lower()
    assert bool(says) == bool(text)


def test_empty_sequences_are_named():
    problem = Problem(rule=RULES["gdn2"], T=5, lengths=(0, 5, 0), K=4, V=4)
    assert "sequences without tokens" in describe(problem, {"ht": mask((3, 1, 4, 4), [0, 2])}, 16)


def test_stage_and_story_reach_report_and_json(capsys: pytest.CaptureFixture[str]):
    kernel = spoil(TOKENS, on_output(lambda o, _: o * 2), "test/doubled")
    cell = Cell(target="test", kernel=kernel.name, rule="gdn2", property="equality")
    harness = Harness(kernel=kernel, kernels=KERNELS, tau=24.0)
    verdict = judge_one(cell, properties.load("equality"), harness, Case(problem=GDN2, config=LaunchConfig()))
    assert verdict.counterexample is not None
    assert verdict.counterexample.stage == HOST
    assert Verdict.from_json(verdict.to_json()) == verdict
    print_report(Console(width=200), [verdict], 1.0)
    text = capsys.readouterr().out
    assert "first stage at fault: host" in text
    assert "tokens gives what it should for the inputs it gets" in " ".join(text.split())


def test_a_replay_token_is_explained_with_its_story():
    token = Replay(prop="equality", kernel="test/doubled", case=Case(problem=TOY, config=LaunchConfig())).token
    done = CliRunner().invoke(app, ["explain", token, "--target", "tests.helpers.wrong_kernels:DOUBLED"])
    assert "first stage at fault: host" in done.stdout
