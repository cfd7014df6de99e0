"""The chunkwise torch path against the token recurrence, forward and backward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaproof.kernels.eager.chunkwise import gated_delta_rule_torch
from deltaproof.specs.inputs.make import Inputs, generate
from deltaproof.specs.inputs.regimes import REGIMES
from deltaproof.specs.oracle.recurrence import solve
from deltaproof.specs.problem import Problem
from deltaproof.specs.rule import RULES

EVERY_LENGTH = (0, 1, 15, 16, 17, 63, 64, 65, 130)
GRADIENTS = {"q": "dq", "k": "dk", "v": "dv", "g": "dg", "b": "db", "w": "dw", "h0": "dh0"}


def run(
    problem: Problem, inputs: Inputs, dtype: torch.dtype = torch.float64, chunk_size: int = 64
) -> dict[str, torch.Tensor]:
    """Outputs and gradients of the torch path, named as the oracle names them."""
    exact = dtype if dtype == torch.float64 else torch.float32
    tensors = {
        name: torch.tensor(x, dtype=exact if name in ("g", "h0", "dht") else dtype)
        for name, x in inputs.arrays().items()
    }
    leaves = {name: tensors[name].requires_grad_() for name in GRADIENTS if name in tensors}
    lengths = problem.lengths
    o, ht = gated_delta_rule_torch(
        *(leaves.get(name) for name in "qkvgbw"),  # pyright: ignore[reportArgumentType]
        scale=problem.effective_scale,
        initial_state=leaves.get("h0"),
        output_final_state=problem.final_state,
        cu_seqlens=None if lengths is None else torch.tensor([0, *np.cumsum(lengths)]),
        chunk_size=chunk_size,
    )
    outputs = {"o": o} if ht is None else {"o": o, "ht": ht}
    sent = {"o": tensors["do"], "ht": tensors.get("dht")}
    torch.autograd.backward(list(outputs.values()), [sent[name] for name in outputs])
    grads = {GRADIENTS[name]: x.grad for name, x in leaves.items()}
    assert all(grad is not None for grad in grads.values())
    return outputs | {name: grad for name, grad in grads.items() if grad is not None}


def worst_error(got: Mapping[str, torch.Tensor], expected: Mapping[str, Any]) -> float:
    """The largest error of any tensor, relative to its norm; inf for what is missing or not finite.

    A gradient may cancel to next to nothing: a norm counts as at least 1e-4 of the largest.
    """
    if set(got) != set(expected):
        return np.inf
    norms = {name: float(np.linalg.norm(reference)) for name, reference in expected.items()}
    least = 1e-4 * max(norms.values())
    errors = [0.0]
    for name, reference in expected.items():
        error = float(np.linalg.norm(got[name].detach().double().numpy() - reference))
        scale = max(norms[name], least)
        errors.append(np.inf if not np.isfinite(error) else error / scale if scale else error)
    return max(errors)


def check(problem: Problem, dtype: torch.dtype = torch.float64, chunk_size: int = 64, tolerance: float = 1e-10):
    inputs = generate(problem)
    assert worst_error(run(problem, inputs, dtype, chunk_size), solve(problem, inputs)) < tolerance


@pytest.mark.parametrize("T", EVERY_LENGTH)
@pytest.mark.parametrize("rule", RULES.values(), ids=lambda rule: rule.name)
def test_every_length(rule, T: int):
    check(Problem(rule=rule, B=2, T=T, H=1, HV=2, K=8, V=6, regime="ordinary"))


CASES = [(rule, regime) for rule in RULES.values() for regime in REGIMES.values() if regime.applies(rule)]


@pytest.mark.parametrize(("rule", "regime"), CASES, ids=[f"{rule.name}-{regime.name}" for rule, regime in CASES])
def test_every_regime(rule, regime):
    check(Problem(rule=rule, T=40, H=1, HV=2, K=8, V=6, regime=regime.name, gate_heads="key"), chunk_size=16)


@settings(max_examples=60)
@given(data=st.data())
def test_every_shape(data: st.DataObject):
    rule = data.draw(st.sampled_from(list(RULES.values())))
    lengths = data.draw(st.none() | st.lists(st.integers(0, 40), min_size=1, max_size=5).map(tuple))
    H = data.draw(st.integers(1, 2))
    problem = Problem(
        rule=rule,
        B=1 if lengths is not None else data.draw(st.integers(1, 3)),
        T=data.draw(st.integers(0, 70)) if lengths is None else sum(lengths),
        H=H,
        HV=H * data.draw(st.integers(1, 3)),
        K=data.draw(st.integers(1, 9)),
        V=data.draw(st.integers(1, 9)),
        regime=data.draw(st.sampled_from([regime.name for regime in REGIMES.values() if regime.applies(rule)])),
        seed=data.draw(st.integers(0, 99)),
        lengths=lengths,
        initial_state=data.draw(st.booleans()),
        final_state=data.draw(st.booleans()),
        gate_heads=data.draw(st.sampled_from(["key", "value"])),
    )
    check(problem, chunk_size=2 ** data.draw(st.integers(0, 6)))


@pytest.mark.parametrize("rule", ["gdn", "gdn2"])
def test_packed_is_separate(rule: str):
    lengths = (0, 5, 64, 0, 65, 1, 0)
    packed = Problem(rule=RULES[rule], T=sum(lengths), K=8, V=8, lengths=lengths)
    inputs = generate(packed)
    got = run(packed, inputs)
    for n, (_, start, length) in enumerate(packed.sequences):
        alone = {
            name: x[n : n + 1] if name in ("h0", "dht") else x[:, start : start + length]
            for name, x in inputs.arrays().items()
        }
        expected = run(replace(packed, T=length, lengths=None), Inputs(**alone))
        part = {
            name: x[n : n + 1] if name in ("ht", "dh0") else x[:, start : start + length] for name, x in got.items()
        }
        assert worst_error(part, {name: x.detach().numpy() for name, x in expected.items()}) < 1e-13


@pytest.mark.parametrize("rule", ["gla", "kda", "gdn", "mamba2", "gdn2"])
@pytest.mark.parametrize("regime", ["strong", "forget_spike", "reset", "reset_inf", "instant_forget", "trained_gates"])
def test_fp32_survives_any_decay(rule: str, regime: str):
    # An exponent whose exponential fp32 can hold is above -104, and its rounding alone is worth 104 * 2^-24 = 6e-6.
    check(Problem(rule=RULES[rule], T=130, K=16, V=16, regime=regime), torch.float32, tolerance=1e-5)


@pytest.mark.parametrize("rule", ["gdn", "gdn2"])
def test_gradient_of_minus_inf_is_zero(rule: str):
    problem = Problem(rule=RULES[rule], T=70, K=8, V=8, regime="reset_inf")
    inputs = generate(problem)
    dg = run(problem, inputs)["dg"].numpy()
    assert np.isinf(inputs.g).any()
    assert (dg[np.isinf(inputs.g)] == 0).all()


@pytest.mark.parametrize("rule", ["linear", "gdn", "kda", "gdn2"])
def test_gradcheck(rule: str):
    problem = Problem(rule=RULES[rule], T=5, K=2, V=2, H=1, HV=2, lengths=(2, 0, 3))
    arrays = generate(problem).arrays()
    names = [name for name in (*"qkvgbw", "h0") if name in arrays]

    def op(*tensors: torch.Tensor) -> tuple[torch.Tensor, ...]:
        given = dict(zip(names, tensors, strict=True))
        outputs = gated_delta_rule_torch(
            *(given.get(name) for name in "qkvgbw"),  # pyright: ignore[reportArgumentType]
            scale=0.7,
            initial_state=given["h0"],
            output_final_state=True,
            cu_seqlens=torch.tensor([0, 2, 2, 5]),
            chunk_size=2,
        )
        return tuple(x for x in outputs if x is not None)

    assert torch.autograd.gradcheck(op, [torch.tensor(arrays[name], requires_grad=True) for name in names])


def test_half_precision_in_and_out():
    problem = Problem(rule=RULES["gdn2"], dtype="bf16", T=40, K=8, V=8)
    inputs = generate(problem)
    got = run(problem, inputs, torch.bfloat16)
    fp32 = {"ht", "dg", "dh0"}
    assert {name for name, x in got.items() if x.dtype == torch.float32} == fp32
    assert {name for name, x in got.items() if x.dtype == torch.bfloat16} == set(got) - fp32
    assert worst_error(got, solve(problem, inputs)) < 4e-3  # of rounding once, to 8 bits


def test_later_tokens_do_not_reach_earlier_outputs():
    problem = Problem(rule=RULES["gdn2"], T=100, K=8, V=8)
    inputs = generate(problem)
    edited = {name: x.copy() for name, x in inputs.arrays().items()}
    for name in "qkvgbw":
        edited[name][:, 70] = -1.0
    before, after = (run(problem, x, torch.float32)["o"] for x in (inputs, Inputs(**edited)))
    assert torch.equal(before[:, :70], after[:, :70])
    assert not torch.equal(before[:, 70], after[:, 70])


def test_states_are_never_aliases():
    problem = Problem(rule=RULES["gdn"], T=0, K=4, V=4)
    tensors = {name: torch.tensor(x) for name, x in generate(problem).arrays().items()}
    _, ht = gated_delta_rule_torch(
        *(tensors.get(name) for name in "qkvgbw"),  # pyright: ignore[reportArgumentType]
        scale=1.0,
        initial_state=tensors["h0"],
        output_final_state=True,
        cu_seqlens=None,
    )
    assert ht is not None
    assert torch.equal(ht, tensors["h0"])
    assert ht.data_ptr() != tensors["h0"].data_ptr()


def test_refuses_an_odd_chunk_size():
    problem = Problem(rule=RULES["linear"], T=4, K=2, V=2)
    with pytest.raises(ValueError, match="chunk_size=48 is not a power of two"):
        run(problem, generate(problem), chunk_size=48)
