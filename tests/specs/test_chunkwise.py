"""The chunkwise oracle is the token recurrence, and its intermediates are what their equations say."""

from __future__ import annotations

import numpy as np
import pytest

from deltaproof.specs.inputs.make import generate
from deltaproof.specs.inputs.regimes import REGIMES
from deltaproof.specs.oracle.chunkwise import chunkwise
from deltaproof.specs.oracle.decay import decays, gate_gradient
from deltaproof.specs.oracle.recurrence import solve
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES

CASES = [(rule, regime) for rule in RULES.values() for regime in REGIMES.values() if regime.applies(rule)]


def furthest(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> float:
    """The largest error of a row (one token and head, one state row, one entry) relative to the row.

    A row of one number may be small by cancellation: it is measured against a hundredth of its tensor at least.
    """
    assert found.keys() == expected.keys()
    worst = 0.0
    for name, truth in expected.items():
        assert found[name].shape == truth.shape, name
        error, least = found[name] - truth, 1e-280
        if truth.ndim == 4:
            error, truth = np.linalg.norm(error, axis=-1), np.linalg.norm(truth, axis=-1)
        elif truth.size:
            least += 1e-2 * np.sqrt(np.mean(truth**2))
        relative = np.abs(error) / np.maximum(np.abs(truth), least)
        assert not np.isnan(relative).any(), name
        worst = max(worst, float(relative.max(initial=0)))
    return worst


@pytest.mark.parametrize(("rule", "regime"), CASES, ids=lambda x: x.name)
def test_equals_the_token_recurrence(rule, regime):
    """Outputs and gradients, by two derivations that share no line of algebra."""
    raw = "+raw_gate" if rule.decay != "none" else ""
    for options, seed in (("", 0), ("", 1), (f"+l2norm+key_gates{raw}", 2)):
        problem = Problem.parse(f"{rule.name}:fp32:b1:t37:h1x2:k6:v5:{regime.name}:s{seed}{options}")
        inputs = generate(problem)
        assert furthest(chunkwise(problem, inputs, 16).outputs, solve(problem, inputs)) < 1e-11


@pytest.mark.parametrize("chunk", [1, 2, 7, 16, 64])
@pytest.mark.parametrize(
    "token",
    [
        "gdn2:fp32:b2:t33:h1x2:k6:v5:mixed:s0",
        "kda:fp32:b1:t33:h1x2:k6:v5:reset_inf:s5+lengths=0.16.1.16.0+no_h0",
        "gdn:fp32:b1:t33:h2x2:k6:v5:silu_keys:s3+no_ht",
        "linear:fp32:b1:t0:h1x1:k2:v3:ordinary:s0",
        "gdn2:fp32:b1:t1:h1x1:k1:v1:erase_two:s0",
    ],
)
def test_any_chunk_size_gives_the_same(token: str, chunk: int):
    problem = Problem.parse(token)
    inputs = generate(problem)
    assert furthest(chunkwise(problem, inputs, chunk).outputs, solve(problem, inputs)) < 1e-11


def test_stages_are_what_their_equations_say():
    problem = Problem.parse("gdn2:fp32:b1:t20:h1x2:k4:v3:ordinary:s0+lengths=12.0.8")
    inputs = generate(problem)
    result = chunkwise(problem, inputs, 8)
    assert [len(chunks) for chunks in result.stages] == [2, 0, 1]
    first, second = result.stages[0]
    assert np.array_equal(first.S, inputs.h0[0])
    assert np.array_equal(result.stages[2][0].dS, inputs.dht[2])
    for stages, tokens in ((first, slice(0, 8)), (second, slice(8, 12)), (result.stages[2][0], slice(12, 20))):
        C = tokens.stop - tokens.start
        q, k, v, g, b, w, do = (
            getattr(inputs, name)[0, tokens].swapaxes(0, 1) for name in ("q", "k", "v", "g", "b", "w", "do")
        )
        G = np.cumsum(g, axis=1)
        between = np.exp(np.minimum(G[:, :, None] - G[:, None], 0))
        scores = np.einsum("hik,hijk,hjk->hij", np.broadcast_to(q, k.shape), between, k)
        erase = np.einsum("hik,hijk,hjk->hij", b * k, between, k)
        assert np.allclose(stages.Aqk, np.tril(scores) * problem.effective_scale)
        assert np.allclose(stages.T, np.tril(erase, -1))
        assert np.allclose(stages.A @ (np.eye(C) + stages.T), np.eye(C))
        assert np.allclose(stages.X, w * v - (np.exp(G) * b * k) @ stages.S)
        assert np.allclose(stages.R, stages.A @ stages.X)
        assert np.allclose(stages.o, result.outputs["o"][0, tokens].swapaxes(0, 1))
        assert np.allclose(stages.dX, stages.A.swapaxes(1, 2) @ stages.dR)
        assert np.allclose(stages.dAqk, np.tril(do @ stages.R.swapaxes(1, 2)))
        assert np.allclose(stages.dT, -np.tril(stages.dX @ stages.R.swapaxes(1, 2), -1))
        assert np.allclose(stages.dX * w, result.outputs["dv"][0, tokens].swapaxes(0, 1))


@pytest.mark.parametrize("strong", [-1e-8, -5.0, -90.0, -1e8, -np.inf])
def test_decay_factors_are_products_and_lose_nothing_after_a_reset(strong: float):
    rng = np.random.default_rng(0)
    g = -rng.uniform(0, 0.1, (11, 3))
    g[5] = strong
    factors = decays(g)
    alpha = np.exp(g)
    for i in range(11):
        assert np.allclose(factors.prefix[i], alpha[: i + 1].prod(0), rtol=1e-13, atol=0)
        assert np.allclose(factors.suffix[i], alpha[i + 1 :].prod(0), rtol=1e-13, atol=0)
        for j in range(11):
            expected = alpha[j + 1 : i + 1].prod(0) if j <= i else np.zeros(3)
            assert np.allclose(factors.between[i, j], expected, rtol=1e-13, atol=0)
    assert np.allclose(factors.total, alpha.prod(0), rtol=1e-13, atol=0)


def test_gate_gradient_sums_what_crosses_each_token():
    rng = np.random.default_rng(0)
    C = 6
    pairs, from_past, to_future, through_state = (
        rng.standard_normal(shape) for shape in ((C, C, 2), (C, 2), (C, 2), (2,))
    )
    dg = gate_gradient(pairs, from_past, to_future, through_state)
    for t in range(C):
        crossing = sum(pairs[i, j] for i in range(t, C) for j in range(t))
        assert np.allclose(dg[t], crossing + from_past[t:].sum(0) + to_future[:t].sum(0) + through_state)
