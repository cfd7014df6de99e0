"""The ladder of oracles: balls and mpmath, finite differences and the reverse sweep, float64 and all of these."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltaproof.specs.arithmetic.scalars import ARB, DIGITS, MP, digits, radius
from deltaproof.specs.inputs.make import generate
from deltaproof.specs.oracle import recurrence
from deltaproof.specs.oracle.precise import best, finite_differences, solve_precisely
from deltaproof.specs.oracle.recurrence import solve
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES

SMALL = [f"{rule}:fp32:b1:t5:h1x2:k4:v3:ordinary:s1" for rule in RULES] + [
    "gdn2:fp32:b1:t6:h1x2:k4:v3:erase_wide:s2+lengths=2.0.4+key_gates+l2norm+raw_gate+scale=0.7",
    "gdn:fp32:b2:t3:h1x2:k4:v3:init_gates:s2+no_h0+no_ht+l2norm+raw_gate",
    "kda:fp32:b1:t5:h1x2:k4:v3:fla:s3+no_h0+key_gates+raw_gate",
    "delta_rule:fp32:b1:t5:h2x2:k3:v4:erase_two:s0+l2norm+no_ht",
]

balls = pytest.mark.skipif(ARB is None, reason="python-flint is not installed")


def digits_of(found: dict[str, np.ndarray], truth: dict[str, np.ndarray]) -> float:
    assert found.keys() == truth.keys()
    return min(digits(found[name], truth[name]) for name in truth)


@balls
@pytest.mark.parametrize("token", SMALL)
def test_balls_hold_the_mpmath_answer(token: str):
    problem = Problem.parse(token)
    inputs = generate(problem)
    sure = solve_precisely(problem, inputs, ARB)
    assert max(radius(x) for x in sure.values()) < 10.0 ** (5 - DIGITS)
    assert digits_of(solve_precisely(problem, inputs, MP), sure) > DIGITS - 5


@pytest.mark.parametrize("token", SMALL)
def test_float64_agrees_with_arbitrary_precision(token: str):
    problem = Problem.parse(token)
    inputs = generate(problem)
    assert digits_of(solve(problem, inputs), solve_precisely(problem, inputs)) > 14


@pytest.mark.parametrize("rule", RULES)
def test_float64_agrees_with_arbitrary_precision_over_many_tokens(rule: str):
    problem = Problem.parse(f"{rule}:fp32:b1:t70:h1x1:k8:v8:ordinary:s0")
    inputs = generate(problem)
    assert digits_of(solve(problem, inputs), solve_precisely(problem, inputs)) > 12


@pytest.mark.parametrize("token", SMALL)
def test_two_routes_to_every_gradient_agree_to_thirty_digits(token: str):
    problem = Problem.parse(token)
    inputs = generate(problem)
    gradients = solve_precisely(problem, inputs)
    witness = finite_differences(problem, inputs)
    assert witness.keys() == gradients.keys() - {"o", "ht"}
    for name, differences in witness.items():
        assert len(differences.where) == gradients[name].size
        assert digits(differences.values, differences.of(gradients[name])) > 30, name


def test_some_entries_of_a_longer_problem_agree_too():
    problem = Problem.parse("gdn2:fp32:b1:t40:h1x1:k6:v5:silu_keys:s0")
    inputs = generate(problem)
    gradients = solve_precisely(problem, inputs)
    for name, differences in finite_differences(problem, inputs, limit=3, seed=5).items():
        assert len(differences.where) == 3
        assert digits(differences.values, differences.of(gradients[name])) > 30, name


def test_a_wrong_reverse_sweep_does_not_deceive_the_witness(monkeypatch: pytest.MonkeyPatch):
    """The tester tested: forget the erase key's share of dk, and nothing else, and the witness says so."""
    right = recurrence.reverse_sweep

    def wrong(batch, trajectory, *rest):
        without_erase = replace(trajectory, e=None)
        return replace(right(batch, trajectory, *rest), k=right(batch, without_erase, *rest).k)

    problem = Problem.parse(SMALL[list(RULES).index("gdn2")])
    inputs = generate(problem)
    monkeypatch.setattr(recurrence, "reverse_sweep", wrong)
    gradients, witness = solve_precisely(problem, inputs), finite_differences(problem, inputs)
    agreement = {
        name: digits(differences.values, differences.of(gradients[name])) for name, differences in witness.items()
    }
    assert agreement.pop("dk") < 3
    assert min(agreement.values()) > 30


def test_the_witness_never_runs_the_reverse_sweep(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_):
        raise AssertionError("the witness used the reverse sweep")

    monkeypatch.setattr(recurrence, "reverse_sweep", refuse)
    problem = Problem.parse(SMALL[0])
    assert finite_differences(problem, generate(problem), limit=1).keys() == {"dq", "dk", "dv", "dh0"}


def test_digits_count_what_agrees():
    with best().precision():
        one = best().array(np.ones(3))
        assert digits(one, one) == float("inf")
        assert 29 < digits(one + best().constant(1e-30), one) < 31
        assert digits(np.array([1.0, 2.0]), np.array([1.0, 2.0 + 2.0**-30])) == pytest.approx(9.33, abs=0.01)
