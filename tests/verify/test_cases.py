"""What is drawn is legal, within limits and replayable; failures shrink."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from deltaproof.kernels import KERNELS
from deltaproof.specs.inputs.make import generate
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES
from deltaproof.verify import properties
from deltaproof.verify.cases import regressions
from deltaproof.verify.cases.profiles import PROFILES
from deltaproof.verify.cases.replay import Case, Replay
from deltaproof.verify.cases.strategies import cases, filled, problems, regimes_of, token_counts
from deltaproof.verify.execution.harness import Harness
from deltaproof.verify.run import judge as check
from tests.helpers.wrong_kernels import DOUBLED, TOKENS, TORCH, at_token, on_output, spoil

QUICK = PROFILES["quick"]
CELL = check.Cell(target="deltaproof", kernel="test/doubled", rule="gdn2", property="equality")


@pytest.mark.parametrize("profile", PROFILES.values(), ids=list(PROFILES))
@given(data=st.data(), rule=st.sampled_from(list(RULES.values())))
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_problems_are_legal_and_within_limits(profile, data, rule):
    problem = data.draw(problems(rule, profile, dtypes=("fp32", "bf16"), regimes=regimes_of(rule)))
    assert problem.rule == rule
    assert profile.tokens >= problem.T
    assert max(problem.K, problem.V) <= max(profile.channels, profile.wide)
    assert profile.rows >= problem.B * problem.HV
    assert profile.tokens * max(1, profile.rows // 2) >= problem.B * problem.HV * problem.T
    assert Problem.parse(problem.token) == problem
    if problem.T * problem.K * problem.HV < 4000:
        generate(problem)


@given(data=st.data(), name=st.sampled_from(["chunk_train/staged", "chunk_fwd/grouped", "chunk_train/torch"]))
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_no_chunk_above_the_default_is_drawn_nearly_empty(data, name):
    kernel = KERNELS[name]
    drawn = cases(
        RULES["kda"], PROFILES["merge"], dtypes=("fp32",), regimes=("ordinary",), kernel=kernel,
        applies=lambda problem: None,
    )  # fmt: skip
    case = data.draw(drawn)
    assert case.config is not None
    longest = max((length for _, _, length in case.problem.sequences), default=0)
    default = kernel.configs(case.problem)[0].chunk_size
    assert case.config.chunk_size <= max(default, 4 * longest)


@pytest.mark.parametrize("tokens", [0, 1, 31, 32, 140])
def test_every_configuration_that_a_call_can_fill_is_offered(tokens: int):
    problem = Problem(rule=RULES["kda"], T=tokens)
    configs = KERNELS["chunk_fwd/split"].configs(problem)
    assert filled(configs, problem)[0] == configs[0]
    sizes = {config.chunk_size for config in filled(configs, problem)}
    assert sizes == {16, 32, 64} | ({128} if tokens >= 32 else set())


def test_sizes_at_tile_edges_are_likely():
    counts = token_counts(140)
    edges = sum(count % 16 in (15, 0, 1, 2) for count in counts) / len(counts)
    assert edges > 0.6
    assert set(counts) == set(range(141))


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_regressions_are_legal(rule):
    found = regressions.problems(rule)
    assert len(found) >= 8
    for problem in found.values():
        generate(problem)


@given(data=st.data(), name=st.sampled_from(list(KERNELS)))
@settings(max_examples=30, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
def test_replay_tokens_are_read_back(data, name):
    drawn = cases(
        RULES["kda"],
        QUICK,
        dtypes=("fp32",),
        regimes=("ordinary",),
        kernel=KERNELS[name],
        applies=lambda problem: None,
    )
    replay = Replay(prop="error", kernel=name, case=data.draw(drawn))
    assert " " not in replay.token
    assert Replay.parse(replay.token) == replay


@pytest.mark.parametrize("token", ["", "equality", "equality@k@p", "equality@k[c64]@nonsense", "equality@k[c63]@x"])
def test_other_tokens_are_refused(token: str):
    with pytest.raises(ValueError, match=r"not (a|the) "):
        Replay.parse(token)


def judge(change, profile=QUICK) -> check.Verdict:
    kernel = spoil(TOKENS, on_output(change))
    return check.judge(CELL, properties.load("equality"), Harness(kernel=kernel, tau=20.0), profile)


def test_failures_shrink_to_something_small():
    verdict = judge(lambda o, _: at_token(o, 2, 2.0))
    assert verdict.status == "failed"
    assert verdict.counterexample is not None
    problem = Problem.parse(verdict.counterexample.problem)
    # Three tokens are needed to be wrong at the third.
    assert (problem.B, problem.T, problem.H, problem.HV) == (1, 3, 1, 1)
    assert problem.K * problem.V <= 4
    assert verdict.counterexample.tensor == "o"
    assert verdict.counterexample.token == 2
    assert not problem.strided
    assert not problem.qk_l2norm


@pytest.mark.parametrize(
    ("wrong", "sizes"),
    [
        (lambda o, x: x["q"].shape[1] > 512, (1, 513, 1, 1, 1, 1)),
        (lambda o, x: o.shape[2] == 4 * x["q"].shape[2], (1, 1, 1, 4, 1, 1)),
        (lambda o, x: o.shape[0] * o.shape[2] > 16 and o.shape[-1] > 2, (9, 1, 1, 2, 1, 3)),
    ],
    ids=["tokens", "a group", "rows"],
)
def test_a_known_failure_shrinks_to_the_sizes_that_it_needs(
    wrong: Callable[..., bool], sizes: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
):
    known = Problem.parse("gdn2:fp32:b11:t700:h1x2:k4:v5:ordinary:s7+l2norm")
    known = known if sizes[0] > 1 or sizes[1] > 1 else replace(known, HV=4)
    known = known if sizes[1] == 1 else replace(known, B=1)
    known = known if sizes[1] > 1 else replace(known, T=3)
    monkeypatch.setattr(check, "known_cases", lambda *_: [Case(problem=known, config=TORCH.configs(known)[0])])
    kernel = spoil(TORCH, on_output(lambda o, x: 2 * o if wrong(o, x) else o))
    verdict = check.judge(CELL, properties.load("equality"), Harness(kernel=kernel), replace(QUICK, shrink_cases=80))
    assert verdict.counterexample is not None
    found = Problem.parse(verdict.counterexample.problem)
    assert sizes == (found.B, found.T, found.H, found.HV, found.K, found.V)
    assert not (found.qk_l2norm or found.initial_state)


@pytest.mark.parametrize("cases", [1, 5])
def test_a_failure_is_shrunk_over_so_many_cases_however_fast_the_machine_is(cases: int):
    tokens: list[str] = []
    profile = replace(QUICK, shrink_cases=cases, examples=0, pairs=0, regressions=1)
    kernel = spoil(TOKENS, on_output(lambda o, _: o * 2))
    check.judge(CELL, properties.load("equality"), Harness(kernel=kernel), profile, on_case=tokens.append)
    # One known case, so many others, and the failure once more where it is localised.
    assert len(set(tokens)) <= 1 + cases, tokens


def test_the_same_seed_draws_the_same_cases():
    def seen(seed: int) -> list[str]:
        tokens: list[str] = []
        harness = Harness(kernel=DOUBLED["test/doubled"], tau=20.0)
        profile = replace(QUICK, shrink_cases=0, examples=4)
        check.judge(CELL, properties.load("equality"), harness, profile, seed=seed, on_case=tokens.append)
        return tokens

    assert seen(1) == seen(1)
    assert seen(1) != seen(2)


def test_a_cell_without_judged_cases_is_unsupported():
    verdict = check.judge(
        CELL, properties.load("equality"), Harness(kernel=spoil(TOKENS, on_output(lambda o, _: o.clamp(min=0)))), QUICK
    )
    assert (verdict.status, verdict.problems, verdict.covered) == ("unsupported", 0, ())
    assert "clamp" in verdict.notes[0]


def test_smaller_cases_come_first():
    small = Problem(rule=RULES["gdn2"], T=3, K=2, V=2, initial_state=False, final_state=False)
    larger = [replace(small, T=4), replace(small, K=3), replace(small, strided=True), replace(small, regime="mixed")]
    assert all(Case(problem=small).size < Case(problem=problem).size for problem in larger)
