"""Budgets excuse the rounding that a contract declares, and nothing else."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from deltaproof.specs.arithmetic.numbers import Float64
from deltaproof.specs.budget import REPLICAS, Budget, budget, ratios, spread
from deltaproof.specs.inputs.make import Inputs, generate, rounded
from deltaproof.specs.oracle.recurrence import solve
from deltaproof.specs.problem import Problem
from deltaproof.specs.rounding.contract import CONTRACTS, EXACT, FP16, FP32, TOKEN_CONTRACTS

BOUND = 16
"""A ratio that no honest implementation comes near here, and every planted mistake exceeds."""


class Float32(Float64):
    """The recurrence as an fp32 kernel would compute it: a known-good implementation."""

    def array(self, values):
        return np.asarray(values, dtype=np.float32)

    def constant(self, value):
        return np.float32(value)

    def zeros(self, shape):
        return np.zeros(shape, dtype=np.float32)

    def rsqrt(self, x):
        return np.float32(1) / np.sqrt(x)


def setting(token: str, **contract) -> tuple[Problem, Inputs, Budget]:
    problem = Problem.parse(token)
    inputs = generate(problem)
    return problem, inputs, budget(problem, inputs, **contract)


def worst(found: dict[str, np.ndarray]) -> float:
    return max(float(x.max(initial=0)) for x in found.values())


ORDINARY = "gdn2:fp32:b1:t40:h1x2:k8:v8:ordinary:s0"


@pytest.fixture(scope="module")
def ordinary() -> tuple[Problem, Inputs, Budget]:
    return setting(ORDINARY)


def test_a_budget_is_deterministic_and_has_all_outputs(ordinary):
    problem, inputs, first = ordinary
    second = budget(problem, inputs)
    for name, truth in solve(problem, inputs).items():
        assert np.array_equal(first.reference[name], truth)
        assert np.array_equal(first.sigma[name], second.sigma[name])
        assert first.replicas[name].shape == (REPLICAS, *truth.shape)
        assert first.sigma[name].shape == truth.shape


def test_sigma_has_the_size_of_the_declared_rounding(ordinary):
    problem, inputs, fp32 = ordinary
    coarse = budget(problem, inputs, CONTRACTS["bf16"])
    for name, sigma in fp32.sigma.items():
        size = np.sqrt((fp32.reference[name] ** 2).mean())
        assert 0.3 < np.sqrt((sigma**2).mean()) / size / FP32.unit < 100
        if name not in ("dh0", "ht", "dg"):
            assert 2**14 < np.sqrt((coarse.sigma[name] ** 2).mean() / (sigma**2).mean()) < 2**17


def test_without_rounding_there_is_no_error():
    sites = ("input", "operand", "product", "state", "exponent", "gate", "output")
    exact = replace(CONTRACTS["fp32"], **dict.fromkeys(sites, EXACT))
    _, _, none = setting(ORDINARY, contract=exact)
    assert max(float((none.sigma[name] / np.abs(x).max()).max()) for name, x in none.reference.items()) < 1e-13


@pytest.mark.parametrize("contract", [CONTRACTS["fp32"], TOKEN_CONTRACTS["fp32"]], ids=lambda x: x.name)
def test_the_budget_grows_where_the_problem_is_ill_conditioned(contract):
    relative = []
    for regime in ("ordinary", "identical_keys"):
        _, _, allowed = setting(f"kda:fp32:b1:t64:h1x1:k8:v8:{regime}:s1", contract=contract)
        relative.append(float(np.sqrt((allowed.sigma["o"] ** 2).mean() / (allowed.reference["o"] ** 2).mean())))
    assert relative[1] > 2 * relative[0]


@pytest.mark.parametrize("regime", ["ordinary", "fla", "reset", "identical_keys", "mixed", "huge_values", "growth"])
def test_an_fp32_recurrence_is_within_its_budget(regime: str):
    problem, inputs, allowed = setting(
        f"gdn2:fp32:b1:t70:h1x2:k8:v8:{regime}:s1+l2norm", contract=TOKEN_CONTRACTS["fp32"]
    )
    assert worst(allowed.ratios(solve(problem, inputs, Float32()))) < BOUND


@pytest.mark.parametrize("dtype", ["bf16", "fp16"])
def test_storing_the_exact_result_in_the_dtype_is_within_budget(dtype: str):
    _, _, allowed = setting(f"gdn2:{dtype}:b1:t40:h1x2:k8:v8:ordinary:s0")
    kept = {
        name: rounded(x, "fp32" if name in ("ht", "dh0", "dg") else dtype)  # pyright: ignore[reportArgumentType]
        for name, x in allowed.reference.items()
    }
    assert worst(allowed.ratios(kept)) < 2
    as_torch = {name: torch.from_numpy(x).to(torch.float32) for name, x in kept.items()}
    assert worst(allowed.ratios(as_torch)) < 2


@pytest.mark.parametrize("name", ["g", "b", "w", "v", "k", "q"])
def test_a_slight_error_at_one_token_exceeds_the_budget(ordinary, name: str):
    problem, inputs, allowed = ordinary
    x = getattr(inputs, name).copy()
    x[0, 20] *= 1 + 1e-4
    assert worst(allowed.ratios(solve(problem, replace(inputs, **{name: x})))) > BOUND


def test_rounding_to_bf16_where_fp32_is_declared_exceeds_the_budget(ordinary):
    _, _, allowed = ordinary
    for name, truth in allowed.reference.items():
        outputs = dict(allowed.reference) | {name: rounded(truth, "bf16")}
        assert worst(allowed.ratios(outputs)) > BOUND, name


@pytest.mark.parametrize("contract", [CONTRACTS["fp32"], TOKEN_CONTRACTS["fp32"]], ids=lambda x: x.name)
def test_a_reset_does_not_excuse_a_difference_of_cumulative_sums(contract):
    """The gates after a reset of -1e6, had they been read back from fp32 cumulative sums."""
    problem, inputs, allowed = setting("gdn2:fp32:b1:t40:h1x2:k8:v8:reset:s6", contract=contract)
    sums = np.cumsum(inputs.g.astype(np.float32), axis=1, dtype=np.float32)
    g = inputs.g.copy()
    g[:, 1:] = (sums[:, 1:] - sums[:, :-1]).astype(np.float64)
    assert (inputs.g[:, 6] == -1e6).all()
    assert worst(allowed.ratios(solve(problem, replace(inputs, g=g)))) > 1000


def test_a_ratio_is_that_of_its_own_row():
    _, _, allowed = setting("kda:fp32:b2:t5:h1x2:k4:v3:ordinary:s0+raw_gate")
    found = allowed.ratios(allowed.reference)
    shapes = {"o": (2, 5, 2), "dk": (2, 5, 1), "db": (2, 5, 2), "ht": (2, 2, 4), "dA_log": (2,), "ddt_bias": (8,)}
    assert {name: found[name].shape for name in shapes} == shapes
    assert worst(found) == 0
    outputs = {name: x.copy() for name, x in allowed.reference.items()}
    outputs["db"][1, 3, 0] += 10 * allowed.sigma["db"][1, 3, 0]
    outputs["ht"][1, 0, 2] += 5 * allowed.sigma["ht"][1, 0, 2]
    found = allowed.ratios(outputs)
    assert np.argwhere(found["db"]).tolist() == [[1, 3, 0]]
    assert np.argwhere(found["ht"]).tolist() == [[1, 0, 2]]
    assert 5 < found["db"].max() <= 10.001
    assert found["ht"].max() == pytest.approx(5, rel=0.01)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [(0, 0, 0, 0), (0, 17, 1, 3)])
def test_what_is_not_finite_is_wrong_wherever_it_is(ordinary, wrong: float, place: tuple[int, ...]):
    """A NaN that does not come first vanishes from a careless maximum."""
    _, _, allowed = ordinary
    outputs = dict(allowed.reference) | {"dk": allowed.reference["dk"].copy()}
    place = (*place[:2], 0, place[3])
    outputs["dk"][place] = wrong
    found = allowed.ratios(outputs)
    assert found["dk"][place[:3]] == np.inf
    assert np.isinf(found["dk"]).sum() == 1
    assert worst(found) == np.inf


def test_infinities_must_stand_where_the_reference_has_them():
    truth, sigma = {"o": np.array([[[[np.inf, 1.0], [-np.inf, 1.0]]]])}, {"o": np.full((1, 1, 2, 2), np.nan)}
    sigma["o"][..., 1] = 1e-6
    contract = CONTRACTS["fp32"]
    assert worst(ratios(truth, truth, sigma, contract)) == 0
    swapped = {"o": -truth["o"]}
    swapped["o"][..., 1] = 1.0
    assert (ratios(swapped, truth, sigma, contract)["o"] == np.inf).all()
    finite = {"o": np.ones((1, 1, 2, 2))}
    assert (ratios(finite, truth, sigma, contract)["o"] == np.inf).all()


@given(truth=st.floats(-4e5, 4e5), off=st.floats(-8, 8))
@example(truth=80448.0, off=0.0)
@example(truth=65519.0, off=4.0)
def test_beyond_the_end_of_the_dtype_its_infinity_is_right(truth: float, off: float):
    """fp16 ends at 65,504: what rounds to infinity there is no fault, and infinity anywhere else is one."""
    exact = {"o": np.full((1, 1, 1, 1), truth)}
    sigma = {"o": np.maximum(np.abs(exact["o"]) * FP16.unit, 1e-6)}
    with np.errstate(over="ignore"):
        stored = (exact["o"] + off * sigma["o"]).astype(np.float16)
    assert worst(ratios({"o": stored}, exact, sigma, CONTRACTS["fp16"])) < BOUND
    for wrong in (np.nan, -np.copysign(np.inf, truth), *([np.copysign(np.inf, truth)] if abs(truth) < 64000 else [])):
        assert worst(ratios({"o": np.full((1, 1, 1, 1), wrong)}, exact, sigma, CONTRACTS["fp16"])) > BOUND


def test_outputs_must_be_there_in_their_shape(ordinary):
    _, _, allowed = ordinary
    outputs = dict(allowed.reference)
    assert (allowed.ratios(outputs | {"o": outputs["o"][:, :-1]})["o"] == np.inf).all()
    del outputs["dw"]
    with pytest.raises(KeyError, match="dw"):
        allowed.ratios(outputs)


def test_exact_zeros_allow_no_more_than_what_underflows():
    _, _, allowed = setting("gdn2:fp32:b1:t9:h1x1:k4:v3:reset_inf:s0")
    assert not allowed.reference["dh0"].any()
    outputs = dict(allowed.reference)
    assert worst(allowed.ratios(outputs | {"dh0": np.full((1, 1, 4, 3), 1e-39)})) < BOUND
    assert worst(allowed.ratios(outputs | {"dh0": np.full((1, 1, 4, 3), 1e-30)})) > 1e6


def test_a_derived_residual_has_its_own_sigma(ordinary):
    """q . dq = o . do for every token and head: judged by the spread of the residual, without any reference."""
    problem, inputs, allowed = ordinary

    def residual(outputs) -> np.ndarray:
        read = (outputs["o"] * inputs.do).sum(-1)
        return (inputs.q * outputs["dq"]).sum(-1)[..., 0] - read.sum(-1)

    sigma = spread(residual(allowed.replicas), residual(allowed.reference))
    assert sigma.shape == (1, problem.T)
    assert np.abs(residual(allowed.reference)).max() < 1e-12
    assert (np.abs(residual(solve(problem, inputs, Float32()))) < BOUND * sigma).all()
    wrong = dict(allowed.reference) | {"dq": allowed.reference["dq"] * (1 + 1e-3)}
    assert (np.abs(residual(wrong)) > BOUND * sigma).mean() > 0.9


@pytest.mark.parametrize("token", ["gdn2:bf16:b1:t0:h1x1:k4:v3:ordinary:s0", f"{ORDINARY}+lengths=0.39.1+no_h0+no_ht"])
def test_budgets_of_short_and_empty_sequences(token: str):
    _, _, allowed = setting(token)
    assert worst(allowed.ratios(allowed.reference)) == 0
