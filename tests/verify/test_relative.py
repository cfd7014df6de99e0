"""The property `relative`: where its cells are, and that it rejects wrong kernels and wrong re-parameterisations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from deltaproof.kernels import KERNELS, Kernel
from deltaproof.kernels.relatives import RELATIVES, Relative
from deltaproof.specs.problem import Problem
from deltaproof.specs.relatives import SYSTEMS, UNSUPPORTED
from deltaproof.specs.rule import NAMED
from deltaproof.specs.rule import RELATIVES as RELATIVE_RULES
from deltaproof.verify import properties
from deltaproof.verify.cases.replay import Case, Replay
from deltaproof.verify.cli.app import app
from deltaproof.verify.execution import relatives as calls
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.run.judge import judge_case
from deltaproof.verify.run.plan import Selection, plan
from deltaproof.verify.verdicts.outcome import Outcome
from tests.helpers.wrong_kernels import STAGED, on_gradient, on_output, spoil

PROPERTY = properties.load("relative")
TORCH = KERNELS["chunk_train/torch"]


def judge(kernel: Kernel, name: str, **options: Any) -> Outcome:
    problem = Problem(rule=NAMED[name], **{"T": 21, "K": 5, "V": 4, "seed": 4, **options})
    case = Case(problem=problem, config=kernel.configs(problem)[0])
    return judge_case(PROPERTY, case, Harness(kernel=kernel, kernels=KERNELS, tau=20.0))


@pytest.mark.parametrize("name", SYSTEMS)
def test_holds_in_fp64_and_a_hair_is_too_much(name: str):
    right = judge(TORCH, name)
    assert right.status == "held", right.message
    hair = spoil(TORCH, on_output(lambda o, _: o * (1 + 1e-9)))
    wrong = judge(hair, name)
    assert (wrong.status, wrong.kind) == ("failed", "structure")


@pytest.mark.parametrize("name", ["gdn2", "carve", "mamba3", "rwkv7"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_a_kernel_holds_within_its_budget(name: str, dtype: str):
    outcome = judge(STAGED, name, dtype=dtype)
    assert outcome.status == "held", outcome.message


def test_a_gradient_that_cancels_in_the_dtype_of_the_outputs_is_allowed_its_rounding():
    """At token 130 the gradient of CARVE's outputs and that of their mean cancel but for a thousandth."""
    theirs = replace(TORCH, foreign=True, trusting={})  # ours would be judged in fp64
    outcome = judge(theirs, "carve", dtype="bf16", T=140, K=24, V=1, seed=1517, lengths=(28, 65, 47))
    assert outcome.status == "held", outcome.message


@pytest.mark.parametrize("name", ["precond_kda", "delta_product"])
def test_a_wrong_gradient_of_a_kernel_fails(name: str):
    outcome = judge(spoil(STAGED, on_gradient("k", lambda g: g * 1.01)), name)
    assert (outcome.status, outcome.kind) == ("failed", "instability")


def without(name: str, argument: str) -> Callable[..., Any]:
    """The system with one of its tensors zeroed."""
    return lambda **arguments: RELATIVES[name].run(**{**arguments, argument: torch.zeros_like(arguments[argument])})


def off_by_default(name: str, **options: Any) -> Callable[..., Any]:
    return lambda **arguments: RELATIVES[name].run(**{**arguments, **options})


def forget_keys(**arguments: Any) -> Any:
    """Mamba-3 whose state hands on only S."""
    o, (state, keys, values) = RELATIVES["mamba3"].run(**arguments)
    return o, (state, torch.zeros_like(keys), values)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("comba", off_by_default("comba", erase_before_decay=False)),
        ("mamba3", without("mamba3", "theta")),
        ("mamba3", forget_keys),
        ("carve", without("carve", "lift")),
        ("carve", off_by_default("carve", chunk_size=8)),
        ("carve", off_by_default("carve", stop_gradient=True)),
        ("precond_gdn", off_by_default("precond_gdn", eps=1e-3)),
        ("retnet", RELATIVES["linear"].run),
        ("kda", lambda *, beta, **a: RELATIVES["kda"].run(beta=2 * beta, **a)),
    ],
)
def test_a_wrong_system_fails(name: str, wrong: Callable[..., Any], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(calls, "RELATIVES", {**RELATIVES, name: Relative(name=name, run=wrong)})
    outcome = judge(TORCH, name)
    assert (outcome.status, outcome.kind) == ("failed", "structure"), outcome


def test_a_decode_cache_that_lacks_something_fails_only_in_parts(monkeypatch: pytest.MonkeyPatch):
    """CARVE resumed at another position: one call is right, the parts are not."""

    def forget(*, position: int, **arguments: Any) -> Any:
        return RELATIVES["carve"].run(position=0, **arguments)

    monkeypatch.setattr(calls, "RELATIVES", {**RELATIVES, "carve": Relative(name="carve", run=forget)})
    outcome = judge(TORCH, "carve", initial_state=False)
    assert outcome.status == "failed"
    assert "when cut at" in outcome.message


def test_merge_judges_what_takes_several_calls_on_some_rules_and_on_all_that_are_named():
    some = Selection(
        target="deltaproof", rules=tuple(NAMED)[:7], properties=("packing",), kernels=(STAGED.name,), profile="merge"
    )
    assert [len(plan(replace(some, named=named), KERNELS)[1]) for named in (False, True)] == [4, 7]


def test_every_kernel_meets_every_system_before_merging():
    selection = Selection(target="deltaproof", rules=tuple(NAMED), properties=("equality", "relative"), profile="merge")
    _, cells = plan(selection, KERNELS)
    pairs = {(cell.kernel, cell.rule) for cell in cells if cell.property == "relative"}
    assert pairs == {(kernel, system) for kernel in KERNELS for system in SYSTEMS}
    others = {cell.rule for cell in cells if cell.property == "equality"}
    assert not others & set(RELATIVE_RULES)


def test_the_quick_profile_takes_the_rules_in_turn_whatever_relatives_there_are():
    selection = Selection(target="deltaproof", rules=tuple(NAMED), properties=("equality", "adjoint", "relative"))
    _, cells = plan(selection, KERNELS)
    for prop, rules in (("equality", 2), ("relative", 1)):
        taken = [cell.rule for cell in cells if cell.property == prop]
        assert len(taken) == rules * len({cell.kernel for cell in cells if cell.property == prop})
    assert len({cell.rule for cell in cells if cell.property == "relative"}) > 4


def test_a_system_replays():
    problem = replace(Problem(rule=NAMED["rwkv7"], T=5), seed=7)
    replay = Replay(
        prop="relative", kernel="chunk_train/torch", case=Case(problem=problem, config=TORCH.configs(problem)[0])
    )
    assert Replay.parse(replay.token) == replay


def test_the_list_names_every_system_and_what_is_outside():
    listed = CliRunner().invoke(app, ["list"])
    assert listed.exit_code == 0
    for name, system in SYSTEMS.items():
        assert f"{name} " in listed.output and system.title in listed.output
    assert all(reason in listed.output for reason in UNSUPPORTED.values())


def test_properties_of_rules_do_not_judge_systems():
    problem = Problem(rule=NAMED["rwkv7"], T=5)
    case = Case(problem=problem, config=TORCH.configs(problem)[0])
    outcome = judge_case(properties.load("error"), case, Harness(kernel=TORCH, kernels=KERNELS))
    assert outcome.status == "inapplicable"
