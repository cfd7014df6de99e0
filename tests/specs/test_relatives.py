"""The relatives' own recurrences: against finite differences, and against what two of them must share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltaproof.specs.oracle.recurrence import solve as solve_rule
from deltaproof.specs.problem import Problem
from deltaproof.specs.relatives import SYSTEMS, UNSUPPORTED, System, drawn, solve
from deltaproof.specs.rule import NAMED, RELATIVES, RULES

SMALL = {"T": 9, "K": 4, "V": 3, "seed": 2}


def problem_of(system: System, **options: object) -> Problem:
    return Problem(rule=NAMED[system.name], **{**SMALL, **options})  # pyright: ignore[reportArgumentType]


def test_every_system_draws_from_a_rule_and_every_relative_is_a_system():
    assert set(SYSTEMS) == set(NAMED)
    assert not set(RULES) & set(RELATIVES)
    assert all(system.source and system.how for system in SYSTEMS.values())
    assert {"MesaNet", "softmax attention", "gated Oja rule"} <= set(UNSUPPORTED)


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_gradients_are_derivatives(system: System):
    problem = problem_of(system)
    call = drawn(system, problem)
    found = solve(system, problem, call)

    def loss(changed: dict[str, np.ndarray]) -> float:
        weights = {name: changed.get(name, x) for name, x in call.weights.items()}
        tensors = {name: changed.get(name, x) for name, x in call.tensors.items()}
        out = solve(system, problem, replace(call, tensors=tensors, weights=weights))
        ends = sum((out[n] * d).sum() for n, d in zip(system.outputs, call.dstates or (), strict=True))
        return float((out["o"] * call.do).sum() + ends)

    rng, h = np.random.default_rng(0), 1e-6
    for name, x in (call.tensors | call.weights).items():
        direction = rng.standard_normal(x.shape)
        slope = (loss({name: x + h * direction}) - loss({name: x - h * direction})) / (2 * h)
        expected = float((found[f"d{name}"] * direction).sum())
        assert slope == pytest.approx(expected, rel=1e-6, abs=1e-7), name


@pytest.mark.parametrize("name", RULES)
def test_systems_that_are_rules_agree_with_the_rule(name: str):
    """Two statements of one system, written apart: matrices per token here, vectors there."""
    problem = Problem(rule=RULES[name], T=20, H=1, HV=2, K=5, V=4, seed=3)
    system = SYSTEMS[name]
    call = drawn(system, problem)
    ours = solve(system, problem, call)
    from deltaproof.specs.inputs.make import generate

    rule = solve_rule(problem, generate(problem))
    np.testing.assert_allclose(ours["o"], rule["o"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours["state"], rule["ht"], rtol=0, atol=1e-13)
    np.testing.assert_allclose(ours["dk"], rule["dk"], rtol=0, atol=1e-12)


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_a_packed_batch_is_its_sequences(system: System):
    packed = problem_of(system, T=9, lengths=(4, 0, 5))
    call = drawn(system, packed)
    together = solve(system, packed, call)
    for index, (_, first, length) in enumerate(packed.sequences):
        alone = problem_of(system, T=length)
        part = replace(
            call,
            tensors={name: x[:, first : first + length] for name, x in call.tensors.items()},
            do=call.do[:, first : first + length],
            states=None if call.states is None else tuple(s[index : index + 1] for s in call.states),
            dstates=None if call.dstates is None else tuple(s[index : index + 1] for s in call.dstates),
        )
        one = solve(system, alone, part)
        np.testing.assert_array_equal(one["o"][0], together["o"][0, first : first + length])
        for name in system.outputs:
            np.testing.assert_array_equal(one[name][0], together[name][index])
