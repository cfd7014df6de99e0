"""What the token recurrence must satisfy whatever its inputs: packing, ties, sharing, hand-off, resets, options."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from deltaproof.specs.arithmetic.numbers import FLOAT64
from deltaproof.specs.inputs.make import Inputs, generate
from deltaproof.specs.oracle.options import L2NORM_EPSILON
from deltaproof.specs.oracle.recurrence import respond, solve
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES

SHAPE = "fp32:b1:t9:h2x4:k5:v3:ordinary:s2"


def close(found: np.ndarray, expected: np.ndarray) -> bool:
    return found.shape == expected.shape and np.allclose(found, expected, rtol=1e-12, atol=1e-13)


def test_one_token_by_hand():
    problem = Problem.parse("gdn2:fp32:b1:t1:h1x1:k2:v1:ordinary:s0+scale=0.5")
    one = Inputs(
        q=np.array([[[[1.0, 2.0]]]]),
        k=np.array([[[[3.0, 1.0]]]]),
        v=np.array([[[[5.0]]]]),
        g=np.log([[[[0.5, 0.25]]]]),
        b=np.array([[[[1.0, 2.0]]]]),
        w=np.array([[[[2.0]]]]),
        h0=np.array([[[[4.0], [8.0]]]]),
        do=np.ones((1, 1, 1, 1)),
        dht=np.zeros((1, 1, 2, 1)),
    )
    # Sbar = (2, 2); read = 3 * 2 + 2 * 2 = 10; r = 10 - 10 = 0; S = Sbar; o = 0.5 * (2 + 4) = 3
    outputs = solve(problem, one)
    assert outputs["o"].item() == pytest.approx(3)
    assert outputs["ht"].ravel() == pytest.approx([2, 2])
    assert outputs["dv"].item() == pytest.approx(0.5 * (1 * 3 + 2 * 1) * 2)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("lengths", [(4, 0, 1, 4), (0, 9), (9, 0), (3, 3, 3)])
def test_packed_sequences_are_separate_sequences(rule: str, lengths: tuple[int, ...]):
    packed = Problem.parse(f"{rule}:{SHAPE}+lengths={'.'.join(map(str, lengths))}+l2norm")
    inputs = generate(packed).arrays()
    whole = solve(packed, Inputs(**inputs))
    for index, (_, start, length) in enumerate(packed.sequences):
        span = {
            name: x[index : index + 1] if name in ("h0", "dht") else x[:, start : start + length]
            for name, x in inputs.items()
        }
        alone = solve(replace(packed, lengths=None, T=length), Inputs(**span))
        for name, x in alone.items():
            place = whole[name][index : index + 1] if name in ("ht", "dh0") else whole[name][:, start : start + length]
            assert close(place, x), name


def test_a_sequence_without_tokens_hands_its_state_through():
    problem = Problem.parse("gdn2:fp32:b2:t0:h1x2:k3:v4:ordinary:s0")
    inputs = generate(problem)
    outputs = solve(problem, inputs)
    assert np.array_equal(outputs["ht"], inputs.h0)
    assert np.array_equal(outputs["dh0"], inputs.dht)
    assert {name: outputs[name].shape for name in ("o", "dq", "dg", "dw")} == {
        "o": (2, 0, 2, 4),
        "dq": (2, 0, 1, 3),
        "dg": (2, 0, 2, 3),
        "dw": (2, 0, 2, 4),
    }


@pytest.mark.parametrize("rule", [rule for rule in RULES if rule != "gdn2"])
def test_every_rule_is_gdn2_with_its_gates_tied(rule: str):
    """The tied gradient is the sum of the untied ones."""
    tied = Problem.parse(f"{rule}:{SHAPE}")
    inputs = generate(tied).arrays()
    full, shapes = dict(inputs), {"g": (1, 9, 4, 5), "b": (1, 9, 4, 5), "w": (1, 9, 4, 3)}
    full.setdefault("w", inputs.get("b", np.ones((1, 9, 4))))
    full.setdefault("g", np.zeros((1, 9, 4)))
    full.setdefault("b", np.zeros((1, 9, 4)))
    for name, shape in shapes.items():
        full[name] = np.broadcast_to(full[name] if full[name].ndim == 4 else full[name][..., None], shape)
    expected = solve(replace(tied, rule=RULES["gdn2"]), Inputs(**full))
    found = solve(tied, Inputs(**inputs))
    for name in found.keys() - {"dg", "db", "dw"}:
        assert close(found[name], expected[name]), name
    for name in tied.rule.gates:
        gradient = expected[f"d{name}"]
        if inputs[name].ndim == 3:
            gradient = gradient.sum(-1)
        if name == "b" and tied.rule.write == "tied":
            gradient = gradient + expected["dw"].sum(-1)
        assert close(found[f"d{name}"], gradient), name


def test_value_heads_that_share_a_key_head_share_its_gradients():
    shared = Problem.parse(f"gdn2:{SHAPE}+key_gates")
    inputs = generate(shared).arrays()
    spread = {name: np.repeat(x, 2, axis=2) if name in ("q", "k", "g", "b") else x for name, x in inputs.items()}
    found, expected = solve(shared, Inputs(**inputs)), solve(replace(shared, H=4), Inputs(**spread))
    for name in ("dq", "dk", "dg", "db"):
        assert close(found[name], expected[name].reshape(1, 9, 2, 2, 5).sum(3)), name
    for name in ("o", "ht", "dv", "dw", "dh0"):
        assert close(found[name], expected[name]), name


def test_handing_the_state_over_continues_the_sequence():
    problem = Problem.parse(f"gdn2:{SHAPE}")
    inputs = generate(problem)
    whole = solve(problem, inputs)
    tokens = ("q", "k", "v", "g", "b", "w", "do")
    first, second = (
        {name: getattr(inputs, name)[:, span] for name in tokens} for span in (slice(0, 4), slice(4, None))
    )
    middle = respond(replace(problem, T=4), Inputs(**first, h0=inputs.h0))["ht"]
    late = solve(replace(problem, T=5), Inputs(**second, h0=middle, dht=inputs.dht))
    early = solve(replace(problem, T=4), Inputs(**first, h0=inputs.h0, dht=late["dh0"]))
    assert close(late["ht"], whole["ht"])
    assert close(early["dh0"], whole["dh0"])
    for name in ("o", *(f"d{name}" for name in tokens[:-1])):
        assert close(np.concatenate([early[name], late[name]], axis=1), whole[name]), name


def test_a_reset_forgets_and_its_gate_has_no_gradient():
    problem = Problem.parse("gdn2:fp32:b1:t9:h1x1:k5:v3:reset_inf:s4")
    inputs = generate(problem)
    outputs = solve(problem, inputs)
    other = solve(problem, replace(inputs, h0=inputs.h0 + 1))
    assert np.isneginf(inputs.g[:, 4]).all()
    assert np.array_equal(outputs["o"][:, 4:], other["o"][:, 4:])
    assert not np.array_equal(outputs["o"][:, :4], other["o"][:, :4])
    assert not outputs["dg"][:, 4].any()
    unseen = solve(problem, replace(inputs, do=np.where(np.arange(9)[:, None, None] < 4, 0, inputs.do)))
    assert not unseen["dh0"].any()


def test_a_final_state_that_nobody_asks_for_has_no_gradient():
    problem = Problem.parse(f"gdn2:{SHAPE}")
    inputs = generate(problem)
    asked = solve(problem, replace(inputs, dht=np.zeros_like(inputs.dht)))
    unasked = solve(replace(problem, final_state=False), replace(inputs, dht=None))
    assert asked.keys() - unasked.keys() == {"ht"}
    assert all(close(unasked[name], asked[name]) for name in unasked)


def test_options_are_the_rule_on_prepared_inputs():
    problem = Problem.parse(f"kda:{SHAPE}+l2norm+raw_gate")
    inputs = generate(problem)
    unit = {
        name: x / np.sqrt((x * x).sum(-1, keepdims=True) + L2NORM_EPSILON)
        for name, x in (("q", inputs.q), ("k", inputs.k))
    }
    g = -np.exp(inputs.A_log)[:, None] * np.logaddexp(0, inputs.g + inputs.dt_bias.reshape(4, 5))
    plain = replace(problem, qk_l2norm=False, gate_in_kernel=False)
    expected = respond(plain, replace(inputs, **unit, g=g, A_log=None, dt_bias=None))
    found = respond(problem, inputs)
    assert close(found["o"], expected["o"]) and close(found["ht"], expected["ht"])


def test_leading_axes_are_independent_copies():
    problem = Problem.parse(f"gdn2:{SHAPE}+lengths=4.0.5+l2norm+raw_gate+key_gates")
    copies = [generate(replace(problem, seed=seed)) for seed in (0, 1)]
    together = Inputs(**{name: np.stack([x.arrays()[name] for x in copies]) for name in copies[0].arrays()})
    found = solve(problem, together)
    for index, one in enumerate(copies):
        for name, x in solve(problem, one).items():
            assert close(found[name][index], x), name


def test_every_declared_site_is_passed_forward_and_backward():
    """An arithmetic that counts its visits sees each site; the sites change nothing by themselves."""

    class Counting(type(FLOAT64)):
        def __init__(self) -> None:
            self.visits: dict[str, int] = {}

        def at(self, site, x):
            self.visits[site] = self.visits.get(site, 0) + 1
            return x

    problem = Problem.parse(f"gdn2:{SHAPE}")
    inputs = generate(problem)
    forward, both = Counting(), Counting()
    respond(problem, inputs, forward)
    outputs = solve(problem, inputs, both)
    assert forward.visits.keys() == {"input", "operand", "product", "state", "exponent", "gate", "output"}
    grown = {site for site in both.visits if both.visits[site] > forward.visits[site]}
    assert grown == {"operand", "product", "state", "gate", "output"}
    assert all(np.array_equal(outputs[name], x) for name, x in solve(problem, inputs).items())
