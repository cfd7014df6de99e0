"""What is declared of a function beside its signature: read, refused in one line, and changing what is asked of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from deltaproof.results.files.calibration import tau
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify import targets
from deltaproof.verify.cases.cell import Cell
from deltaproof.verify.cases.replay import Case
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.properties import load
from deltaproof.verify.run.judge import judge_one
from deltaproof.verify.targets.convention import Adapted
from deltaproof.verify.targets.declared import FLAGS, LISTS, NUMBERS, resolved, split

TOYS = "tests.helpers.toy_targets"


def kernel_of(target: str):
    (kernel,) = targets.load(f"{TOYS}:{target}").kernels.values()
    return kernel


def verdict(target: str, prop: str, **fields: Any):
    """The verdict of the last chunk size that a function takes, on a small problem, or one with these fields."""
    kernel = kernel_of(target)
    assert isinstance(kernel, Adapted)
    states = "initial_state" in kernel.convention.options
    shape: dict[str, Any] = {"T": 3, "K": 3, "V": 2, "initial_state": states, "final_state": states}
    problem = Problem(rule=RULES["gdn"], **shape | fields)
    case = Case(problem=problem, config=kernel.configs(problem)[-1])
    cell = Cell(target=f"{TOYS}:{target}", kernel=kernel.name, rule="gdn", property=prop)
    return judge_one(cell, load(prop), Harness(kernel=kernel, tau=tau()), case)


def test_what_is_declared_changes_what_is_asked():
    plain, declared = kernel_of("chunk_gdn"), kernel_of("chunk_gdn[forward_only,recurrent,dtypes=bf16,max_channels=64]")
    assert plain.differentiable and not declared.differentiable
    assert (declared.op, declared.exponent, declared.sums_decay_gradient) == ("recurrent", None, False)
    problem = Problem(rule=RULES["gdn"], dtype="bf16", K=80, V=16)
    assert plain.accepts(problem) is True
    assert "head dimensions above 64" in str(declared.accepts(problem))
    assert "does not take fp32" in str(declared.accepts(Problem(rule=RULES["gdn"], K=16, V=16)))
    assert "head dimensions below 16" in str(
        kernel_of("chunk_gdn[min_channels=16]").accepts(Problem(rule=RULES["gdn"], K=8))
    )


def test_a_rule_that_arguments_leave_open_may_be_declared():
    assert targets.load(f"{TOYS}:either").ambiguous
    assert targets.load(f"{TOYS}:either[rules=kda]").ambiguous is None
    assert kernel_of("either[rules=kda]").rules == ("kda",)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("fast", "'fast' cannot be declared; accepted: forward_only"),
        ("recurrent=maybe", "accepted: yes, no"),
        ("dtypes=fp8", "dtypes has 'fp8'; accepted: fp32, bf16, fp16"),
        ("max_channels=none", "a whole number from 1 to 999999"),
        (f"min_channels={'9' * 5000}", "a whole number from 1 to 999999"),
        ("recurrent=no,recurrent", "recurrent is declared twice"),
        ("chunk_sizes=64", "has no argument chunk_size"),
    ],
)
def test_words_that_say_nothing_are_refused(words: str, told: str):
    with pytest.raises(ValueError, match="target") as raised:
        targets.load(f"{TOYS}:chunk_gdn[{words}]")
    assert told in str(raised.value) and "\n" not in str(raised.value)


def test_only_of_functions_is_anything_declared():
    with pytest.raises(ValueError, match="is not a function"):
        targets.load(f"{TOYS}:KERNELS[forward_only]")


def test_a_table_of_pyproject_names_a_function_and_what_is_declared_of_it(tmp_path: Path):
    text = """
    [tool.deltaproof.targets.mine]
    target = "tests.helpers.toy_targets:chunk_gdn"
    forward_only = true
    grouped_heads = false
    dtypes = ["bf16", "fp16"]
    max_channels = 128
    """
    (tmp_path / "pyproject.toml").write_text(text)
    whole = resolved("mine", tmp_path)
    assert split(whole) == (
        f"{TOYS}:chunk_gdn",
        (("forward_only", "yes"), ("grouped_heads", "no"), ("dtypes", "bf16+fp16"), ("max_channels", "128")),
    )
    assert resolved("other", tmp_path) == "other"
    (tmp_path / "pyproject.toml").write_text("[tool.deltaproof.targets.mine]\nforward_only = true")
    with pytest.raises(ValueError, match="has no target"):
        resolved("mine", tmp_path)


@pytest.mark.parametrize(
    ("target", "prop", "advice"),
    [
        ("sized_gdn", "equality", "chunk_sizes=64"),
        ("no_backward_gdn", "equality", "forward_only"),
        ("v_first_gdn", "equality", "state_v_first"),
    ],
)
def test_a_failure_names_the_declaration_that_would_change_it(target: str, prop: str, advice: str):
    failed = verdict(target, prop)
    assert failed.status == "failed" and failed.counterexample is not None
    assert failed.counterexample.message.endswith(f"declares {advice}")
    assert verdict(f"{target}[{advice}]", prop).status == "held"


@pytest.mark.parametrize(
    ("target", "prop", "fields", "advice"),
    [
        ("narrow_gdn", "equality", {"K": 130}, "max_channels=128"),
        ("narrow_gdn", "equality", {"V": 129}, "max_channels=128"),
        ("unhalved_gdn", "error", {"dtype": "fp16"}, "dtypes=fp32+bf16"),
        ("looping_gdn", "equality", {"T": 0}, "returns_given_state"),
        ("by_rows_gdn", "offsets", {"K": 4, "V": 4}, "max_sequences=65535"),
    ],
)
def test_a_refusal_names_the_declaration_that_would_change_it(
    target: str, prop: str, fields: dict[str, Any], advice: str
):
    failed = verdict(target, prop, **fields)
    assert failed.status == "failed" and failed.counterexample is not None
    assert failed.counterexample.message.endswith(f"declares {advice}")
    problem = Problem.parse(failed.counterexample.problem)
    declared = kernel_of(f"{target}[{advice}]")
    if declared.accepts(problem) is True:
        assert verdict(f"{target}[{advice}]", prop, **fields).status == "held"


def test_every_word_is_documented():
    page = (Path(__file__).parents[2] / "docs" / "verification.md").read_text()
    assert [word for word in (*FLAGS, *LISTS, *NUMBERS) if f"`{word}" not in page] == []
