"""Faults are enumerated, drawn, planted and judged as the command says; what judges them can itself fail."""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from triton.runtime.interpreter import InterpretedFunction
from typer.testing import CliRunner

from deltaproof.kernels import KERNELS, stages
from deltaproof.specs.inputs.make import generate
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify.cases.replay import Case, Replay
from deltaproof.verify.cli.app import app
from deltaproof.verify.interpreter.rewrite import parse
from deltaproof.verify.mutants import campaign, detectable, equivalent, functions, judge, peers, prove, report
from deltaproof.verify.mutants.draw import draw
from deltaproof.verify.mutants.engines import ENGINES, enumerate_mutants, plant
from deltaproof.verify.mutants.mutant import Mutant, Source
from deltaproof.verify.mutants.operators import OPERATORS
from deltaproof.verify.mutants.sources import Usage, usage
from deltaproof.verify.mutants.suite import relevant, write_suite
from tests.helpers.mutant_results import result

TAU = 24.0
TOKENS = KERNELS["recurrent/tokens"]
PROBLEM = Problem(rule=RULES["gdn2"], T=5, H=1, HV=2, K=3, V=4, seed=3)
CASE = Case(problem=PROBLEM, config=TOKENS.configs(PROBLEM)[0])
SUITE = [Replay(prop=prop, kernel=TOKENS.name, case=CASE) for prop in ("equality", "memory", "error")]


def sources_of_stages() -> list[Source]:
    found = []
    for module in pkgutil.walk_packages(stages.__path__, f"{stages.__name__}."):
        names = vars(importlib.import_module(module.name))
        for function in names.values():
            if isinstance(function, InterpretedFunction) and function.fn.__module__ == module.name:
                name = f"{function.fn.__module__}:{function.fn.__qualname__}"
                found.append(Source(name=name, tree=parse(function.fn)[0]))
    return found


SOURCES = {source.name: source for source in sources_of_stages()}
OURS = ENGINES["deltaproof"]
MUTANTS = enumerate_mutants(OURS, SOURCES.values())
TOKENS_KERNEL = next(name for name in SOURCES if name.endswith(":tokens_kernel"))


KNOWN = next(
    mutant
    for mutant in MUTANTS
    if (mutant.function, mutant.operator, mutant.before) == (TOKENS_KERNEL, "factor", "key[:, None] * write[None, :]")
)
"""The outer product of the write, without one of its factors."""


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    path = tmp_path / "suite"
    write_suite(SUITE, path)
    return path


def task(mutant: Mutant, suite: Path, **changes: Any) -> judge.MutantTask:
    settings = {"tests": (0, 1, 2), "target": "deltaproof", "tau": TAU, "timeout": 60.0} | changes
    return judge.MutantTask(mutant=mutant, suite_path=suite, **settings)


def test_there_are_enough_operators_everywhere():
    assert len(OPERATORS) >= 8
    assert {mutant.operator for mutant in MUTANTS} == set(OPERATORS)
    assert {mutant.function for mutant in MUTANTS} == set(SOURCES)
    assert len({mutant.id for mutant in MUTANTS}) == len(MUTANTS)


def test_every_fault_can_be_planted_and_changes_the_code():
    for mutant in MUTANTS[::40]:
        tree = SOURCES[mutant.function].tree
        text = ast.unparse(tree)
        changed = plant(mutant, tree)
        compile(changed, "changed", "exec")
        assert ast.unparse(changed) != text, mutant
        assert ast.unparse(tree) == text, "the tree given was changed"


def test_a_changed_source_is_refused():
    other = ast.parse("def tokens_kernel():\n    pass")
    with pytest.raises(ValueError, match="source has changed"):
        plant(KNOWN, other)


@pytest.mark.parametrize("seed", [0, 1])
def test_draws_are_seeded_and_stratified(seed: int):
    drawn = draw(MUTANTS, 200, seed)
    assert drawn == draw(MUTANTS, 200, seed) != draw(MUTANTS, 200, seed + 1)
    assert len({mutant.id for mutant in drawn}) == 200
    assert max(Counter(mutant.operator for mutant in drawn).values()) <= 200 / 5
    assert {mutant.stage for mutant in drawn} == {mutant.stage for mutant in MUTANTS}
    assert len(draw(MUTANTS[:5], 200, seed)) == 5


def test_a_fault_is_killed_and_says_by_what(suite: Path):
    result = judge.run(task(KNOWN, suite))
    assert (result.status, result.by, result.arithmetic, result.kind) == ("killed", "equality", "exact", "structure")
    assert result.replay == SUITE[0].token
    assert result.asked == 1


def test_what_changes_nothing_survives(suite: Path):
    harmless = replace(KNOWN, function="elsewhere:nothing")
    result = judge.run(task(harmless, suite))
    assert (result.status, result.asked) == ("survived", 3)


def test_a_timeout_ends_as_survival(suite: Path):
    result = judge.run(task(KNOWN, suite, timeout=-1.0))
    assert (result.status, result.asked) == ("survived", 0)
    assert "left" in result.reason


def test_a_crash_is_no_kill(suite: Path, monkeypatch: pytest.MonkeyPatch):
    def crash(mutant: Mutant) -> Any:
        def transform(name: str, tree: ast.Module) -> ast.Module:
            definition: Any = tree.body[0]
            definition.body.insert(0, ast.parse("unknown_name").body[0])
            return ast.fix_missing_locations(tree)

        return transform

    monkeypatch.setattr(judge, "CRASHES", 2)
    monkeypatch.setattr(judge, "transform_of", crash)
    result = judge.run(task(KNOWN, suite))
    assert (result.status, result.crashes) == ("excluded", 2)
    assert "only raises" in result.reason and str(Path(judge.__file__).parents[2]) not in result.reason


def test_a_test_that_the_right_kernel_fails_kills_nothing(suite: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(judge, "_holds", lambda *_: False)
    assert judge.run(task(KNOWN, suite)).status == "survived"


def test_only_tests_that_run_the_code_are_run():
    mutant = next(m for m in MUTANTS if m.function == TOKENS_KERNEL and "DECAY == CHANNEL" in m.guards)
    suite = [replace(SUITE[0], case=replace(CASE, problem=replace(PROBLEM, rule=rule))) for rule in RULES.values()]
    users = frozenset((TOKENS.name, rule, False) for rule in RULES)
    known = Usage(sources=SOURCES, users={TOKENS_KERNEL: users})
    rules = {suite[index].case.problem.rule.name for index in relevant(mutant, suite, known)}
    assert rules == {name for name, rule in RULES.items() if rule.decay == "channel"}


def test_calls_that_turn_options_on_by_themselves_run_what_options_add():
    mutant = next(m for m in MUTANTS if m.function.endswith(":activate_grad_kernel"))
    cases = [replace(CASE, style=style) for style in ("", "varied")]
    cases += [replace(CASE, problem=replace(PROBLEM, gate_in_kernel=True))]
    known = Usage(sources=SOURCES, users={mutant.function: frozenset({(TOKENS.name, "gdn2", True)})})
    suite = [replace(SUITE[0], case=case) for case in cases]
    assert relevant(mutant, suite, known) == [1, 2]
    stale = next(m for m in MUTANTS if (m.function, m.operator) == (mutant.function, "stale"))
    assert relevant(stale, suite[::-1], known) == [1, 0]


def test_tf32_products_break_the_contract_of_fp32(suite: Path):
    mutant = next(m for m in MUTANTS if m.function.endswith(":output_kernel") and m.after.endswith("'tf32')"))
    staged = KERNELS["chunk_train/staged"]
    test = Replay(prop="equality", kernel=staged.name, case=replace(CASE, config=staged.configs(PROBLEM)[0]))
    write_suite([test], suite)
    result = judge.run(task(mutant, suite, tests=(0,)))
    assert (result.status, result.by, result.kind) == ("killed", "equality", "precision")


def test_equal_launches_prove_and_others_refute(monkeypatch: pytest.MonkeyPatch):
    found = prove.compare([KNOWN], SUITE, KERNELS, SOURCES, 60.0)[KNOWN.id]
    assert "o of tokens_kernel" in str(found.different)
    monkeypatch.setattr(prove, "transform_of", lambda mutant: lambda name, tree: tree)
    found = prove.compare([KNOWN], SUITE, KERNELS, SOURCES, 60.0)[KNOWN.id]
    # One call in exact arithmetic, one that rounds.
    assert (found.launches, found.different) == (2, None)
    assert prove.compare([KNOWN], [], KERNELS, SOURCES, 60.0)[KNOWN.id].launches == 0


def test_what_is_proven_is_entered_and_what_is_refuted_leaves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    users = {TOKENS_KERNEL: frozenset({(TOKENS.name, "gdn2", False)})}
    drawn = campaign.DrawnMutants(
        every=[KNOWN], points=[KNOWN], mutants=[KNOWN], usage=Usage(sources=SOURCES, users=users)
    )
    path = tmp_path / "equivalent.toml"
    monkeypatch.setattr(campaign, "each_case", lambda *_: SUITE)

    def entries() -> dict[str, equivalent.Equivalent]:
        campaign.prove(drawn, [result("survived", id=KNOWN.id)], KERNELS, "deltaproof", 60.0, path)
        return equivalent.read(path)

    with monkeypatch.context() as harmless:
        harmless.setattr(prove, "transform_of", lambda mutant: lambda name, tree: tree)
        (entry,) = entries().values()
    assert (entry.id, entry.launches, entry.argument, entry.complete) == (KNOWN.id, 2, "", True)
    assert equivalent.accepted(KNOWN, {entry.id: entry}, SOURCES) is None, "nobody has written the argument"
    assert entries() == {}


def test_equivalence_needs_an_argument_a_proof_and_the_same_source(tmp_path: Path):
    mutant = KNOWN
    entry = equivalent.Equivalent(
        id=mutant.id, where='a "quoted"\nplace', argument="because", source=equivalent.digest(SOURCES[mutant.function]),
        launches=7, complete=True,
    )  # fmt: skip
    path = tmp_path / "some" / "equivalent.toml"
    equivalent.write({entry.id: entry}, path)
    assert equivalent.read(path) == {entry.id: entry}
    assert equivalent.accepted(mutant, {entry.id: entry}, SOURCES) == "because"
    for wrong in ({"argument": " "}, {"launches": 0}, {"complete": False}, {"source": "another"}):
        assert equivalent.accepted(mutant, {entry.id: replace(entry, **wrong)}, SOURCES) is None
    path.write_text("[broken")
    with pytest.raises(ValueError, match="not a list of equivalent faults"):
        equivalent.read(path)


def test_the_score_leaves_out_what_is_equivalent_or_only_crashes():
    results = [result("killed", by="equality", arithmetic="exact")] * 3 + [
        result("survived"), result("equivalent"), result("excluded"), result("excluded"),
    ]  # fmt: skip
    about = report.summary(results, {})
    assert (about["drawn"], about["planted"], about["killed"], about["equivalent"], about["excluded"]) == (
        7,
        5,
        3,
        1,
        2,
    )
    assert about["score"] == 0.75
    content = report.document(results, {}, {}, {}, {}, {})
    assert {entry["status"] for entry in content["mutants"]} == {"killed", "survived", "equivalent"}
    assert len(content["excluded"]) == 2
    assert report.summary([], {})["score"] is None


@pytest.mark.parametrize("name", peers.RULES_OF_OTHERS)
def test_rules_of_others_reject_what_is_wrong(name: str):
    accepts = peers.RULES_OF_OTHERS[name]
    truth = np.linspace(-1, 1, 30).reshape(5, 6)
    assert accepts("o", truth, truth, truth)
    assert not accepts("o", truth * 2, truth, truth)


def test_a_nan_that_is_not_first_is_rejected():
    problem = peers.usual_problems("linear")[0]
    outputs = {name: x.copy() for name, x in peers._truth(problem).items() if name == "o"}
    accept_all = lambda *_: True  # noqa: E731
    assert peers.content(accept_all, problem, outputs)
    outputs["o"][1, 5, 1, 3] = np.nan
    assert not peers.content(accept_all, problem, outputs)
    assert not peers.content(accept_all, problem, None)


def test_smaller_errors_are_not_seen_once_one_is_not():
    rules = {"any": lambda outputs: False, "none": lambda outputs: True}
    seen = detectable._smallest(PROBLEM, generate(PROBLEM), "v", 2, rules)
    assert seen["none"] == float("inf")
    assert seen["any"] == 2.0**-detectable._STEPS


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--operator", "gremlins"], "unknown operator"), (["--target", "nowhere"], "nowhere")],
)
def test_bad_usage_is_one_line(arguments: list[str], says: str):
    answer = CliRunner().invoke(app, ["mutants", *arguments])
    assert answer.exit_code == 2
    assert says in answer.stderr
    assert len(answer.stderr.strip().splitlines()) == 1


def test_operators_say_what_they_are():
    for operator in OPERATORS.values():
        assert operator.about
        assert inspect.getdoc(operator.edits)


def sites_of(operator: str, text: str) -> list[str]:
    """What an operator makes of a kernel: the code with one fault each."""
    tree = ast.parse(text)
    source = Source(name="somewhere:kernel", tree=tree)
    return [ast.unparse(plant(m, tree)) for m in OURS.mutants_of(source) if m.operator == operator]


@pytest.mark.parametrize(
    ("operator", "line", "planted"),
    [
        ("axis", "i = tl.program_id(0) + tl.program_id(1)",
         ["tl.program_id(1) + tl.program_id(1)", "tl.program_id(0) + tl.program_id(0)"]),
        ("axis", "i = tl.program_id(1)", []),
        ("block", "i = tl.program_id(1)", ["tl.minimum(tl.program_id(1), tl.maximum(tl.num_programs(1), 2) - 2)"]),
        ("block", "n = tl.cdiv(length, C)", ["n = length // C"]),
        ("trip", "for i in range(0, n, B):\n  f(i)", ["range(0, n if n < 0 + B else 0 + B, B)", "range(0, n, 2 * B)"]),
        ("loop", "for i in tl.static_range(4):\n  f(i)", ["static_range(0, 4 - 1)", "static_range(0 + 1, 4)"]),
        ("limit", "row = tl.program_id(0) * B + tl.arange(0, B)", ["tl.minimum(tl.program_id(0) * B + tl.arange(0, B), 65535)"]),
        ("limit", "column = tl.program_id(0) * B + tl.arange(0, B)", []),
        ("limit", "i = n.to(tl.int64)", ["i = n\n"]),
        ("limit", "i = tl.load(x).to(tl.int64)", []),
        ("limit", "for i in range(n):\n  f(i)", ["range(0, n if n < 0 + 1024 * 1 else 0 + 1024 * 1, 1)"]),
        ("limit", "for i in range(0, K, B):\n  f(i)", []),
        ("stale", "i = tl.program_id(0)", [f"({x} := first('kernel {x}', {x}))" for x in ("K", "B", "length", "C")]),
        ("stale", "i = K", []),
    ],
)  # fmt: skip
def test_faults_in_how_work_is_shared_are_what_they_say(operator: str, line: str, planted: list[str]):
    indented = line.replace("\n", "\n    ")
    made = [f"{code}\n" for code in sites_of(operator, f"def kernel(x, K, B, n, length, C):\n    {indented}")]
    assert len(made) == len(planted)
    assert all(text in code for code, text in zip(made, planted, strict=True))


@pytest.mark.parametrize(
    ("operator", "words", "prop", "changes"),
    [
        ("axis", "tl.program_id(0) -> tl.program_id(1)", "equality", {}),
        ("block", "tl.program_id(0) -> tl.minimum", "equality", {}),
        ("trip", "2 * 1", "equality", {}),
        ("trip", "else tl.load", "equality", {}),
        ("limit", "1024 *", "offsets", {"H": 1, "HV": 1, "seed": 4}),
        ("stale", "kernel scale", "call_styles", {}),
        ("stale", "kernel HV", "call_styles", {}),
    ],
)  # fmt: skip
def test_faults_in_how_work_is_shared_are_found(suite: Path, operator: str, words: str, prop: str, changes: Any):
    mutant = next(
        m
        for m in MUTANTS
        if (m.function, m.operator) == (TOKENS_KERNEL, operator) and words in f"{m.before} -> {m.after}"
    )
    case = replace(CASE, problem=replace(PROBLEM, **changes), style="varied" if prop == "call_styles" else "")
    write_suite([Replay(prop=prop, kernel=TOKENS.name, case=case)], suite)
    found = judge.run(task(mutant, suite, tests=(0,)))
    assert (found.status, found.by) == ("killed", prop), found


def test_what_a_question_made_a_kernel_keep_answers_no_other(suite: Path):
    stale = next(m for m in MUTANTS if m.function == TOKENS_KERNEL and "kernel scale" in m.after)
    other = replace(CASE, problem=replace(PROBLEM, scale=0.25))
    write_suite([replace(SUITE[0], case=case) for case in (CASE, other)], suite)
    assert judge.run(task(stale, suite, tests=(0, 1))).status == "survived"


def test_functions_that_no_fault_is_found_in_are_named_with_the_reason():
    empty = Source(name="m:empty", tree=ast.parse("def empty(x):\n    pass"))
    sources = {TOKENS_KERNEL: SOURCES[TOKENS_KERNEL], empty.name: empty}
    own = [mutant for mutant in MUTANTS if mutant.function == TOKENS_KERNEL]
    results = [result("excluded", id=mutant.id) for mutant in own]
    found = functions.out_of_reach(sources, own, results, ["m:asleep"])
    assert list(found.values()) == [["m:asleep"], [empty.name], [TOKENS_KERNEL]]
    for judged in (results[1:], [result("survived", id=own[0].id), *results[1:]]):
        assert not list(functions.out_of_reach(sources, own, judged).values())[2]
    assert functions.sentence(found, 3).startswith("3 of 3 functions have no fault that could be killed: asleep (")


def test_faults_are_drawn_from_functions_that_only_fp16_runs():
    one = KERNELS["chunk_fwd/grouped"]
    found = usage({one.name: one})
    assert any(name.endswith(":towards_one") for name in found.sources)
    assert set(functions.own_functions()) == set(SOURCES)
