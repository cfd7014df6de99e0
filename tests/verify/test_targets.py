"""Targets: how they are named, what a signature tells, and that what a target cannot do is said and never passed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deltaproof.results.files.calibration import tau
from deltaproof.specs.problem import Problem
from deltaproof.specs.rounding.contract import CONTRACTS
from deltaproof.specs.rule import RULES
from deltaproof.verify import targets
from deltaproof.verify.cases import regressions
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.cli.app import app
from deltaproof.verify.execution.contracts import promises_ieee_products
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import load as load_property
from deltaproof.verify.run.judge import judge, judge_case
from deltaproof.verify.run.plan import Selection, inapplicable, plan
from deltaproof.verify.run.served_cases import served_cases
from deltaproof.verify.targets.convention import Adapted
from deltaproof.verify.verdicts.judgement import Verdict
from deltaproof.verify.verdicts.outcome import Outcome

FEW = ("empty sequences first, between and last", "decode: one token, with a state", "no states, scale of one",
       "gate and normalisation in the kernel", "strided views")  # fmt: skip
SMALL = replace(PROFILES["quick"], examples=1, regressions=3, pairs=0, shrink_cases=10)


@pytest.fixture(autouse=True)
def _few_known_cases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(regressions, "REGRESSIONS", {name: regressions.REGRESSIONS[name] for name in FEW})


def verdict(target: str, prop: str, *, kernel: str | None = None, rule: str | None = None) -> Verdict:
    """One cell, judged here."""
    loaded = targets.load(target)
    name = kernel or next(iter(loaded.kernels))
    rule = str(rule or loaded.kernels[name].rules[0])
    harness = Harness(kernel=loaded.kernels[name], kernels=loaded.kernels, tau=tau())
    return judge(Cell(target=target, kernel=name, rule=rule, property=prop), load_property(prop), harness, SMALL)


@pytest.mark.parametrize("prop", ["equality", "error", "packing"])
def test_a_function_with_the_signature_of_fla_is_judged(prop: str):
    held = verdict("tests.helpers.toy_targets:chunk_kda", prop)
    assert (held.status, held.rule) == ("held", "kda")
    assert held.problems > 1


def test_a_function_with_our_signature_is_judged_on_every_rule():
    assert targets.load("tests.helpers.toy_targets:general").kernels["general"].rules == tuple(RULES)
    assert verdict("tests.helpers.toy_targets:general", "equality", rule="gdn2").status == "held"
    assert verdict("tests.helpers.toy_targets:general", "equality", rule="mamba2").status == "held"


def test_a_wrong_function_fails_with_its_smallest_problem():
    wrong = verdict("tests.helpers.toy_targets:forgetful_kda", "equality")
    assert (wrong.status, wrong.kind) == ("failed", "structure")
    assert wrong.counterexample is not None
    problem = Problem.parse(wrong.counterexample.problem)
    assert problem.initial_state and problem.lengths is None and not problem.qk_l2norm


@pytest.mark.parametrize(
    ("target", "problem", "reason"),
    [
        ("tests.helpers.toy_targets:delta", {"rule": "delta_rule"}, "takes no initial state"),
        ("tests.helpers.toy_targets:delta", {"rule": "delta_rule", "initial_state": False}, "returns no final state"),
        ("tests.helpers.toy_targets:delta", {"rule": "kda"}, "does not compute rule kda"),
        ("tests.helpers.toy_targets:chunk_kda", {"rule": "kda", "qk_l2norm": True}, "does not normalise q and k"),
        ("tests.helpers.toy_targets:chunk_kda", {"rule": "kda", "gate_in_kernel": True}, "takes no raw decay gate"),
        ("tests.helpers.toy_targets:plain_gdn", {"rule": "gdn", "HV": 2}, "no more value heads than key heads"),
        ("tests.helpers.toy_targets:chunk_kda", {"rule": "kda", "regime": "reset_inf"}, "takes no decay of -inf"),
        (
            "tests.helpers.toy_targets:forgetful_kda",
            {"rule": "kda", "lengths": (3, 4), "T": 7},
            "takes no packed batch",
        ),
        ("tests.helpers.toy_targets:forgetful_kda", {"rule": "kda", "scale": 1.0}, "takes no scale"),
    ],
)
def test_what_a_signature_does_not_take_is_declared(target: str, problem: dict[str, Any], reason: str):
    (kernel,) = targets.load(target).kernels.values()
    answer = kernel.accepts(Problem(**{**problem, "rule": RULES[problem["rule"]]}))
    assert reason in str(answer)


def test_a_try_shows_what_a_signature_does_not():
    (kernel,) = targets.load("tests.helpers.toy_targets:delta").kernels.values()
    assert not kernel.differentiable and not kernel.needs_triton
    (kernel,) = targets.load("tests.helpers.toy_targets:chunk_kda").kernels.values()
    assert kernel.differentiable and not kernel.needs_triton


def outcome(function: str, prop: str, **options: Any) -> Outcome:
    """One small problem of Gated DeltaNet."""
    loaded = targets.load(f"tests.helpers.toy_targets:{function}")
    problem = Problem(rule=RULES["gdn"], **{"B": 2, "T": 4, "K": 3, "V": 2, "seed": 4, **options})
    (kernel,) = loaded.kernels.values()
    harness = Harness(kernel=kernel, kernels=loaded.kernels, tau=tau())
    return judge_case(load_property(prop), Case(problem=problem, config=kernel.configs(problem)[0]), harness)


NO_STATES: dict[str, Any] = {"initial_state": False, "final_state": False}


@pytest.mark.parametrize("prop", ["equality", "error", "hand_off", "linearity", "relative", "identities"])
def test_plain_torch_that_writes_into_slices_is_judged_right(prop: str):
    right = outcome("plain_gdn", prop)
    assert right.status == "held", right.message


@pytest.mark.parametrize("prop", ["equality", "error"])
def test_plain_torch_in_fp64_with_the_names_of_model_code_is_judged_right(prop: str):
    right = outcome("wide_gdn", prop, **NO_STATES)
    assert right.status == "held", right.message


def test_plain_torch_that_is_wrong_fails():
    wrong = outcome("stale_gdn", "equality", **NO_STATES)
    assert (wrong.status, wrong.kind) == ("failed", "structure")
    assert wrong.place is not None and wrong.place.token == 1


@pytest.mark.parametrize("prop", ["equality", "error"])
def test_torch_that_writes_to_its_inputs_fails(prop: str):
    wrong = outcome("meddling_gdn", prop, **NO_STATES)
    assert (wrong.status, wrong.kind) == ("failed", "memory")
    assert "modifies its input q" in wrong.message


@pytest.mark.parametrize(("prop", "reason"), [("packing", "no packed batch"), ("chunk_invariance", "a single config")])
def test_what_a_function_cannot_be_asked_is_not_held_against_it(prop: str, reason: str):
    told = outcome("plain_gdn", prop)
    assert told.status == "inapplicable" and reason in told.message


def test_answers_to_bad_calls_are_judged_of_who_declares_to_check_its_input():
    (kernel,) = targets.load("tests.helpers.toy_targets:plain_gdn").kernels.values()
    selection = Selection(target="toy", rules=("gdn",), properties=("hostile_input",))
    (told,) = inapplicable(replace(selection, named=True), {"plain_gdn": kernel})
    assert "declares no checks of its input" in told.notes[0]
    (checked,) = targets.load("tests.helpers.toy_targets:checked_kda").kernels.values()
    assert inapplicable(replace(selection, rules=("kda",), named=True), {"checked_kda": checked}) == []


@pytest.mark.parametrize("options", [{}, {"initial_state": False}, {"final_state": False}])
def test_without_tokens_no_gradient_is_as_good_as_zeros(options: dict[str, Any]):
    right = outcome("plain_gdn", "equality", T=0, **options)
    assert right.status == "held", right.message


def test_properties_that_cannot_be_judged_are_reported_with_the_reason():
    (kernel,) = targets.load("tests.helpers.toy_targets:delta").kernels.values()
    selection = Selection(target="toy", rules=tuple(RULES), properties=("adjoint", "memory", "causality"))
    told = {v.property: v for v in inapplicable(selection, {"delta": kernel})}
    assert {v.status for v in told.values()} == {"inapplicable"}
    assert told["adjoint"].notes == ("has no backward pass",)
    assert "no Triton kernels" in told["memory"].notes[0]
    assert "causality" not in told
    assert not [cell for cell in plan(selection, {"delta": kernel})[1] if cell.property in told]


def test_a_rule_asked_for_by_name_and_not_computed_is_reported():
    (kernel,) = targets.load("tests.helpers.toy_targets:delta").kernels.values()
    selection = Selection(target="toy", rules=("kda",), properties=("causality",))
    (told,) = inapplicable(replace(selection, named=True), {"delta": kernel})
    assert (told.status, told.rule, told.notes) == ("inapplicable", "kda", ("does not compute rule kda",))


@pytest.mark.parametrize(("kernel", "prop"), [("states_v_first", "equality"), ("states_v_first", "error"),
                                              ("raw_beta", "error"), ("bounded_gate", "error"),
                                              ("raw_beta", "equality"), ("bounded_gate", "equality")])  # fmt: skip
def test_options_of_a_convention_are_undone_in_the_call(kernel: str, prop: str):
    held = verdict("tests.helpers.toy_targets:KERNELS", prop, kernel=kernel)
    assert held.status == "held"
    assert held.problems > 1
    assert any("declined" in note for note in held.notes)


@pytest.mark.parametrize(
    ("words", "note"), [("dtypes=fp32", "does not take bf16"), ("dtypes=bf16+fp16", "does not take fp32")]
)
def test_a_problem_that_is_asked_in_another_dtype_is_listed_as_declined(words: str, note: str):
    held = verdict(f"tests.helpers.toy_targets:delta[{words}]", "error")
    assert held.status == "held"
    assert any(f"declined by the kernel: {note}" in one for one in held.notes)


def test_who_declares_rounded_operands_promises_no_ieee_products():
    (kernel,) = targets.load("tests.helpers.toy_targets:checked_kda").kernels.values()
    case = Case(problem=Problem(rule=RULES["kda"]), config=None)
    assert promises_ieee_products(kernel, case)
    assert not promises_ieee_products(replace(kernel, fp32_operand=CONTRACTS["bf16"].operand), case)


def test_a_gate_outside_the_range_of_an_option_is_declined():
    kernels = targets.load("tests.helpers.toy_targets:KERNELS").kernels
    plain: dict[str, Any] = {"initial_state": False, "final_state": False}
    assert kernels["raw_beta"].accepts(Problem(rule=RULES["delta_rule"], **plain)) is True
    refusal = kernels["raw_beta"].accepts(Problem(rule=RULES["delta_rule"], regime="erase_two", **plain))
    assert "outside the open interval (0, 2)" in str(refusal)
    refusal = kernels["bounded_gate"].accepts(Problem(rule=RULES["gla"], regime="strong", seed=3, **plain))
    assert "outside the open interval (-5, 0)" in str(refusal)


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("nope", "deltaproof.targets"),
        ("tests.helpers.toy_targets:nope", "cannot be imported"),
        ("no_such_module:f", "cannot be imported"),
        ("tests.helpers.toy_targets:unreadable", "takes no q, k, v"),
        ("tests.helpers.toy_targets:Any", "accepted"),
        ("tests.helpers.toy_targets:either", "--rule gdn or --rule kda"),
    ],
)
def test_a_bad_target_is_refused_in_one_line(target: str, says: str):
    done = CliRunner().invoke(app, ["all", "--target", target])
    assert done.exit_code == 2
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_package_registers_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    info = tmp_path / "toy_registered-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: toy-registered\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text("[deltaproof.targets]\ntoy = toy_registered:KERNELS\n")
    (tmp_path / "toy_registered.py").write_text("from tests.helpers.toy_targets import KERNELS\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert set(targets.load("toy").kernels) == {"states_v_first", "raw_beta", "bounded_gate"}
    with pytest.raises(ValueError, match="registered: toy"):
        targets.load("other")


def test_the_command_reports_what_does_not_apply_and_does_not_count_it(tmp_path: Path):
    path = tmp_path / "report.json"
    arguments = [
        "all",
        "--target",
        "tests.helpers.toy_targets:delta",
        "--profile",
        "quick",
        "--jobs",
        "1",
        "--json",
        str(path),
    ]
    done = CliRunner().invoke(app, [*arguments, "--property", "adjoint", "--property", "memory"])
    assert done.exit_code == 2, "nothing was judged"
    content = json.loads(path.read_text())
    assert content["summary"]["inapplicable"] > 0
    assert content["summary"]["unsupported"] == content["summary"]["failed"] == 0
    assert "has no backward pass" in done.stdout


@pytest.fixture(scope="module")
def fla() -> targets.Target:
    """The installed package."""
    try:
        return targets.load("fla")
    except ValueError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("kernel", ["fused_recurrent_gdn2", "fused_recurrent_kda/allow_neg_eigval",
                                    "fused_recurrent_gated_delta_rule/state_v_first", "chunk_simple_gla"])  # fmt: skip
def test_flash_linear_attention_runs_without_a_gpu(fla: targets.Target, kernel: str):
    own = fla.kernels[kernel]
    harness = Harness(kernel=own, kernels=fla.kernels, tau=tau())
    problem = Problem(rule=RULES[own.rules[0]], T=5, K=16, V=16, regime="ordinary")
    case = Case(problem=problem, config=own.configs(problem)[0])
    assert load_property("error").check(case, harness).status == "held"


@pytest.mark.parametrize("scale", [None, 8.0, 0.0, -8.0])
def test_flash_linear_attention_raises_for_no_scale_that_it_is_said_to_take(fla: targets.Target, scale: float | None):
    for kernel in fla.kernels.values():
        if "/" in kernel.name:
            continue
        problem = Problem(rule=RULES[kernel.rules[0]], T=2, K=16, V=16, regime="ordinary", scale=scale, dtype="bf16")
        if kernel.accepts(problem) is True:
            case = Case(problem=problem, config=kernel.configs(problem)[0])
            outcome = judge_case(load_property("memory"), case, Harness(kernel=kernel, kernels=fla.kernels, tau=tau()))
            assert outcome.kind != "launch", (kernel.name, outcome.message)


def test_what_is_known_good_of_flash_linear_attention(fla: targets.Target):
    ordinary = Problem(rule=RULES["kda"], T=5)
    assert fla.known_good(fla.kernels["chunk_kda"], ordinary) is True
    assert fla.known_good(fla.kernels["chunk_kda/safe_gate"], ordinary) is not True
    assert fla.known_good(fla.kernels["chunk_kda"], replace(ordinary, regime="strong", seed=3)) is not True


def test_options_that_a_package_does_not_have_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    target = targets.load("tests.helpers.toy_targets:delta")
    lacking = replace(target, not_offered={"safe_gate": ("delta",), "lower_bound": ()})
    monkeypatch.setattr(targets, "load", lambda name, *device, **options: lacking)
    path = tmp_path / "report.json"
    arguments = ["all", "--target", "tests.helpers.toy_targets:delta", "--profile", "quick", "--property", "adjoint"]
    done = CliRunner().invoke(app, [*arguments, "--json", str(path)])
    assert "safe_gate is not offered by delta" in done.stdout and "lower_bound" not in done.stdout
    assert json.loads(path.read_text())["environment"]["not offered"] == "safe_gate is not offered by delta"


def test_what_functions_of_flash_linear_attention_lack_is_told(fla: targets.Target):
    assert "chunk_gated_delta_rule" in fla.not_offered["safe_gate"]
    for option, names in fla.not_offered.items():
        assert not any(f"{name}/{option}" in fla.kernels for name in names)


@pytest.mark.parametrize("prop", ["equality", "error"])
def test_autograd_through_a_cumulative_sum_is_right(prop: str):
    token = {"T": 40, "K": 16, "V": 8, "initial_state": False, "regime": "fla"}
    assert [outcome("chunk_gdn", prop, **token, seed=seed).status for seed in range(3)] == ["held"] * 3


def test_a_failure_that_a_declaration_would_change_names_it():
    problem = Problem(rule=RULES["gdn"], T=40, K=16, V=8, initial_state=False, regime="fla")
    (kernel,) = targets.load("tests.helpers.toy_targets:chunk_gdn").kernels.values()
    strict = Harness(kernel=replace(kernel, sums_decay_gradient=False), tau=tau())
    found = judge_case(load_property("error"), Case(problem=problem, config=kernel.configs(problem)[0]), strict)
    assert found.status == "failed"
    assert "if it declares sums_decay_gradient" in found.message


def test_a_try_shows_whether_heads_may_be_grouped():
    for name, grouped in (("grouped_gdn", True), ("tiled_gdn", True), ("plain_gdn", False), ("chunk_gdn", False)):
        (kernel,) = targets.load(f"tests.helpers.toy_targets:{name}").kernels.values()
        assert isinstance(kernel, Adapted) and kernel.convention.grouped_heads is grouped, name
    assert outcome("grouped_gdn", "equality", H=2, HV=4, **NO_STATES).status == "held"
    assert outcome("tiled_gdn", "equality", H=2, HV=4, **NO_STATES).status == "failed"


def test_every_chunk_size_that_a_function_takes_is_asked_of_it():
    loaded = targets.load("tests.helpers.toy_targets:sized_gdn")
    (kernel,) = loaded.kernels.values()
    problem = Problem(rule=RULES["gdn"], T=4, K=3, V=2, **NO_STATES)
    assert [config.chunk_size for config in kernel.configs(problem)] == [64, 32]
    assert verdict("tests.helpers.toy_targets:sized_gdn", "equality").status == "failed"


def test_as_compiled_a_function_without_states_is_asked_without_them():
    (kernel,) = targets.load("tests.helpers.toy_targets:sized_gdn").kernels.values()
    cell = Cell(target="tests.helpers.toy_targets:sized_gdn", kernel=kernel.name, rule="gdn", property="error")
    (case,) = served_cases(cell, load_property("error"), kernel, PROFILES["quick"], "sm_90")
    assert not case.problem.initial_state


@pytest.mark.parametrize("regime", ["fla", "trained_gates", "forget_spike"])
def test_decays_as_differences_of_sums_are_held_however_they_vary_in_a_chunk(regime: str):
    several = {"B": 1, "T": 60, "K": 1, "V": 1, "regime": regime, **NO_STATES}
    assert [outcome("chunk_gdn", "error", **{**several, "seed": seed}).status for seed in (16, 38)] == ["held"] * 2


def test_what_a_difference_of_sums_loses_at_a_reset_still_fails():
    reset = {"B": 1, "T": 60, "K": 4, "V": 3, "regime": "reset", **NO_STATES}
    lost = [outcome("chunk_gdn", "error", **{**reset, "seed": seed}) for seed in range(6)]
    assert ("failed", "instability") in [(one.status, one.kind) for one in lost]


def test_flash_linear_attention_imports_without_seeing_the_folders_of_the_checkout(tmp_path: Path):
    """transformers, which it imports, asks for a package called kernels, and would be given ours."""
    (tmp_path / "fla").mkdir()
    (tmp_path / "fla" / "__init__.py").write_text(
        "from importlib.util import find_spec\nraise ImportError(f'sees kernels: {find_spec(\"kernels\") is not None}')\n"
    )
    about = tmp_path / "fla_core-0.6.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fla-core\nVersion: 0.6.0\n")
    root = Path(__file__).resolve().parents[2]
    environment = {**os.environ, "PYTHONPATH": f"{root / '.import'}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-m", "deltaproof.verify", "list", "--target", "fla"]
    done = subprocess.run(command, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert "sees kernels: False" in done.stderr, done.stderr
