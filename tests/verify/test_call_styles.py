"""The lattice of call styles: every two words that go together meet, tokens are read back, and failures shrink to one word."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any

import pytest

from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.call_styles import (
    ALONE,
    AXES,
    FORWARD_ONLY,
    OF_GATES,
    _parts,
    meaning,
    shared,
    styles,
    words,
)
from deltaproof.verify.cases.case import Case, Replay
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.interpreter import tuned as tuning
from deltaproof.verify.properties import load
from deltaproof.verify.run.judge import judge, judge_case
from deltaproof.verify.run.known_cases import known_cases
from tests.helpers.wrong_kernels import (
    MIDDLE,
    PRUNED,
    SPLIT,
    STAGED,
    TOKENS,
    UNPRUNED,
    on_gradient,
    on_output,
    second_configuration,
    spoil,
    tuned,
)


def test_every_two_words_of_different_sorts_meet():
    rows = [set(words(style)) for style in styles()]
    of_gradients = {word for axis in ("pulled", "gradients asked", "backward") for word in AXES[axis]}
    crossed = [axis for axis in AXES if axis not in ALONE]
    for one, other in combinations(crossed, 2):
        for x in ("", *AXES[one]):
            for y in ("", *AXES[other]):
                if len(_parts([x, y])) == 1 and not (FORWARD_ONLY & {x, y} and {x, y} & of_gradients):
                    absent = (set(AXES[one]) if not x else set()) | (set(AXES[other]) if not y else set())
                    wanted = {x, y} - {""}
                    assert any(wanted <= row and not row & absent for row in rows), (x, y)
    assert len(rows) < 60


def test_without_gradients_nothing_is_asked_of_them():
    asked = {word for style in styles(False) for word in words(style)}
    assert not asked & (set(AXES["pulled"]) | set(AXES["gradients asked"]) | set(AXES["backward"]))
    assert asked >= FORWARD_ONLY


@pytest.mark.parametrize("style", ["fast", "no_grad+inference", "twice+twice", "+twice"])
def test_words_that_do_not_go_together_are_refused(style: str):
    with pytest.raises(ValueError, match="call style"):
        words(style)


def test_a_replay_token_names_the_style():
    token = "call_styles@recurrent/tokens[c64]@gdn:fp32:b2:t3:h1x1:k4:v4:ordinary:s0@transposed+between"
    replay = Replay.parse(token)
    assert replay.token == token
    assert "last stride" in meaning(replay.case.style)


def test_the_rules_of_a_kernel_share_the_lattice():
    prop, among = load("call_styles"), tuple(RULES)
    cells = [
        Cell(target="deltaproof", kernel=STAGED.name, rule=rule, property=prop.name, among=among) for rule in among
    ]
    met = [case.style for cell in cells for case in known_cases(cell, prop, STAGED, PROFILES["merge"], 0)]
    assert sorted(met) == sorted(styles())


@pytest.mark.parametrize("among", [tuple(RULES), ("linear", "gdn"), ("gla", "delta_rule", "linear"), ("gdn2",)])
def test_what_is_said_of_a_gate_is_met_by_a_rule_that_has_it(among: tuple[str, ...]):
    for style, rule in shared(among).items():
        for word in set(words(style)) & set(OF_GATES):
            able = [name for name in among if set(OF_GATES[word]) & set(RULES[name].gates)]
            assert rule in able or not able, (style, rule)


def test_a_failure_shrinks_to_the_word_that_it_needs():
    passes: list[int] = []

    def second(gradient):
        passes.append(1)
        return gradient * (2 if len(passes) % 2 == 0 else 1)

    def wrong(right, arguments):
        passes.clear()
        return on_gradient("v", second)(right, arguments)

    kernel = spoil(STAGED, wrong)
    profile = replace(PROFILES["quick"], styles=25)
    cell = Cell(target="deltaproof", kernel=kernel.name, rule="gdn", property="call_styles")
    verdict = judge(cell, load("call_styles"), Harness(kernel=kernel, tau=20.0), profile)
    assert verdict.counterexample is not None
    assert Replay.parse(verdict.counterexample.replay).case.style == "twice"


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (tuned(), {"timed"}),
        (tuned(reset_to_zero=["o"]), set()),
        (tuned(restore_value=["o"]), set()),
        (on_output(second_configuration), {"chosen"}),
        (MIDDLE, {"chosen"}),
        (PRUNED[0], set()),
        (PRUNED[1], set()),
        (UNPRUNED, set()),
    ],
    ids=[
        "adds once more",
        "reset",
        "restored",
        "second configuration",
        "one between",
        "first pruned",
        "one pruned",
        "no driver",
    ],
)
def test_an_autotuned_kernel_is_run_as_its_first_and_later_calls_run_it(change, wrong: set[str]):
    tuning.install()
    kernel = spoil(SPLIT, change)
    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v4:ordinary:s0")
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    harness = Harness(kernel=kernel)
    for style in ("", "timed", "chosen", "timed"):  # whatever ran before it in this process
        outcome = judge_case(load("call_styles"), replace(case, style=style), harness)
        assert outcome.status == ("failed" if style in wrong else "held"), style


def _boundaries(arguments: dict[str, Any]) -> Any:
    """Kept by how many there are, and by where the last one is."""
    found = arguments["cu_seqlens"]
    return "cu_seqlens", None if found is None else (len(found), int(found[-1]))


def _scale(arguments: dict[str, Any]) -> Any:
    """Kept by the head dimension."""
    return "scale", arguments["q"].shape[-1]


@pytest.mark.parametrize("of", [_boundaries, _scale])
def test_what_is_kept_of_one_call_is_not_taken_for_another(of: Callable[[dict[str, Any]], Any]):
    kept: dict[Any, Any] = {}

    def stale(right, arguments):
        name, key = of(arguments)
        taken = arguments[name] if key is None else kept.setdefault(key, arguments[name])
        return right(**{**arguments, name: taken})

    problem = Problem.parse("gdn:fp32:b1:t5:h1x1:k4:v3:ordinary:s0")
    for kernel, expected in ((spoil(TOKENS, stale), "failed"), (TOKENS, "held")):
        case = Case(problem=problem, config=kernel.configs(problem)[0], style="varied")
        assert judge_case(load("call_styles"), case, Harness(kernel=kernel)).status == expected
