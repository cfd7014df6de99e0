"""The relatives as ops: against their own recurrences, in parts, through FLA's names, and what each refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Any

import hypothesis
import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from deltaproof.kernels import LaunchConfig, fla_names, gated_delta_rule
from deltaproof.kernels.configs.launch_config import CHUNK_SIZES, STAGES
from deltaproof.kernels.relatives import RELATIVES, CarveCache, carve, comba, mamba3, rwkv7
from deltaproof.specs.problem import Problem
from deltaproof.specs.relatives import SYSTEMS
from deltaproof.specs.rule import NAMED
from deltaproof.verify.execution.relatives import posed, run, run_in_parts

TORCH = partial(gated_delta_rule, variant="torch")


def problems(name: str) -> st.SearchStrategy[Problem]:
    grouped = SYSTEMS[name].grouped

    def build(T: int, B: int, wide: bool, K: int, V: int, seed: int, packed: bool, states: bool) -> Problem:
        lengths = (T // 3, 0, T - T // 3) if packed else None
        return Problem(
            rule=NAMED[name], T=T, B=1 if packed else B, H=1, HV=2 if wide and grouped else 1, K=K, V=V, seed=seed,
            lengths=lengths, initial_state=states, final_state=states,
        )  # fmt: skip

    return st.builds(
        build, st.integers(0, 40), st.integers(1, 2), st.booleans(), st.integers(1, 9), st.integers(1, 7),
        st.integers(0, 99), st.booleans(), st.booleans(),
    )  # fmt: skip


def assert_close(outputs: dict[str, torch.Tensor], truth: dict[str, np.ndarray]) -> None:
    for name, x in outputs.items():
        size = np.abs(truth[name]).max(initial=0) or 1.0
        np.testing.assert_allclose(x.numpy(), truth[name], rtol=0, atol=1e-12 * size, err_msg=name)


@pytest.mark.parametrize("name", RELATIVES)
def test_agrees_with_its_own_recurrence(name: str):
    @hypothesis.settings(max_examples=6, deadline=None, derandomize=True, database=None)
    @hypothesis.given(problems(name))
    def check(problem: Problem) -> None:
        call, truth = posed(problem)
        assert_close(run(problem, call, TORCH, torch.float64, gradients=True), truth)

    check()


@pytest.mark.parametrize("name", RELATIVES)
def test_prefill_and_decode_equal_one_call(name: str):
    problem = Problem(rule=NAMED[name], T=37, B=2, K=5, V=4, seed=3)
    call, truth = posed(problem)
    cuts = [16, 17, 18, 19, 31]
    assert_close(run_in_parts(problem, call, TORCH, torch.float64, cuts), truth)


def test_every_system_has_an_op():
    assert set(RELATIVES) == set(SYSTEMS)


def _carve_call(T: int = 100) -> tuple[Any, Any]:
    """Arguments of `carve`: those with tokens, and the maps."""
    make = torch.Generator().manual_seed(0)
    q, k, b = (torch.randn(2, T, 2, 8, generator=make, dtype=torch.float64) for _ in range(3))
    v = torch.randn(2, T, 2, 6, generator=make, dtype=torch.float64)
    g, w = -torch.rand(2, T, 2, 8, generator=make, dtype=torch.float64), torch.rand(2, T, 2, generator=make).double()
    k, q = (torch.nn.functional.normalize(x, dim=-1) for x in (k, q))
    maps = [
        torch.randn(6, 3, generator=make, dtype=torch.float64),
        torch.randn(3, 8, generator=make, dtype=torch.float64),
    ]
    return {"q": q, "k": k, "v": v, "g": g, "b": b, "w": w}, dict(zip(("read", "lift"), maps, strict=True))


def test_no_tuner_varies_the_chunk_size_of_carve():
    """A tuner's chunk sizes reach the kernels through a LaunchConfig: all give one CARVE, which its own argument changes."""
    tokens, maps = _carve_call()
    default, last = carve(**tokens, **maps, output_cache=True)
    assert last is not None
    for chunk_size in CHUNK_SIZES:
        o, cache = carve(**tokens, **maps, output_cache=True, config=LaunchConfig(chunk_size=chunk_size))
        assert cache is not None and cache.position == last.position
        torch.testing.assert_close(o, default, rtol=0, atol=1e-14)
        torch.testing.assert_close(cache.mean, last.mean, rtol=0, atol=1e-14)
    other, _ = carve(**tokens, **maps, chunk_size=32)
    assert (other - default).abs().max() > 1e-3
    # Nor has a launch any other setting of that name: what is tuned are variant, chunk size, group, solver and tiles of stages.
    assert {field.name for field in fields(LaunchConfig)} == {
        "variant",
        "chunk_size",
        "group",
        "solver",
        "token",
        *STAGES,
    }


def test_carve_needs_its_whole_cache():
    tokens, maps = _carve_call()
    whole, _ = carve(**tokens, **maps, chunk_size=32)
    before: Any = {name: x[:, :50] for name, x in tokens.items()}
    _, cache = carve(**before, **maps, chunk_size=32, output_cache=True)
    assert cache is not None
    rest: Any = {name: x[:, 50:] for name, x in tokens.items()}
    kept, _ = carve(**rest, **maps, chunk_size=32, cache=cache)
    torch.testing.assert_close(kept, whole[:, 50:], rtol=0, atol=1e-14)
    for spoilt in (
        replace(cache, mean=torch.zeros_like(cache.mean)),
        replace(cache, total=torch.zeros_like(cache.total)),
        replace(cache, position=(0, 0)),
    ):
        o, _ = carve(**rest, **maps, chunk_size=32, cache=spoilt)
        assert (o - whole[:, 50:]).abs().max() > 1e-4


def test_carve_with_a_zero_map_is_gated_deltanet_2_bit_for_bit():
    tokens, maps = _carve_call(64)
    q, k, v, g, b, w = (x.float() for x in tokens.values())
    o, _ = carve(q, k, v, g, b, w, maps["read"].float(), torch.zeros(3, 8))
    expected, _ = gated_delta_rule(q, k, v, g, torch.sigmoid(b), w)
    assert torch.equal(o, expected)


def test_carve_options():
    tokens, maps = _carve_call()
    default, _ = carve(**tokens, **maps, chunk_size=16)
    scale = 8**-0.5
    unscaled, _ = carve(**tokens, **maps, chunk_size=16, content="unscaled")
    by_hand, _ = carve(**tokens, **maps, chunk_size=16, content=lambda o: o / scale)
    torch.testing.assert_close(unscaled, by_hand)
    assert (unscaled - default).abs().max() > 1e-3
    assert (carve(**tokens, **maps, chunk_size=16, erase_max=2.0)[0] - default).abs().max() > 1e-3
    heads: Any = {name: x.expand(2, *x.shape) for name, x in maps.items()}
    torch.testing.assert_close(carve(**tokens, **heads, chunk_size=16)[0], default)
    read = maps["read"].clone().requires_grad_()
    (flowing,) = torch.autograd.grad(carve(**tokens, read=read, lift=maps["lift"], chunk_size=16)[0].sum(), read)
    (stopped,) = torch.autograd.grad(
        carve(**tokens, read=read, lift=maps["lift"], chunk_size=16, stop_gradient=True)[0].sum(), read
    )
    assert (flowing - stopped).abs().max() > 1e-6


def test_carve_may_read_before_its_step():
    """Outputs of the query "previous" are reads of the states that single steps leave."""
    tokens, maps = _carve_call(20)
    zero: Any = {**maps, "lift": torch.zeros_like(maps["lift"])}
    o, _ = carve(**tokens, **zero, chunk_size=8, query="previous")
    state: torch.Tensor | None = torch.zeros(2, 2, 8, 6, dtype=torch.float64)
    for t in range(20):
        q, k, v, g, b, w = (x[:, t : t + 1] for x in tokens.values())
        assert state is not None
        expected = (q[:, 0, :, None] @ state).squeeze(-2) * 8**-0.5
        torch.testing.assert_close(o[:, t], expected, rtol=0, atol=1e-13)
        _, state = gated_delta_rule(q, k, v, g, torch.sigmoid(b), w, initial_state=state, output_final_state=True)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda x, m: carve(**x, **m, chunk_size=0), "chunk_size=0"),
        (lambda x, m: carve(**{**x, "b": x["b"][..., 0]}, **m), "b has shape"),
        (lambda x, m: carve(**x, read=m["lift"], lift=m["read"]), "read has shape"),
        (
            lambda x, m: carve(**x, **m, cache=CarveCache(state=x["q"], mean=x["q"], total=x["q"], position=(0,))),
            "cache holds 1",
        ),
        (lambda x, m: comba(x["q"], x["k"], x["v"], x["g"][..., 0] - 100, x["w"], torch.ones(2)), "at least -60"),
        (lambda x, m: rwkv7(x["q"], x["g"] - 100, x["k"], x["q"], x["k"], x["k"]), "log decay"),
    ],
)
def test_bad_input_is_refused_in_one_line(call: Callable[..., Any], says: str):
    tokens, maps = _carve_call(4)
    with pytest.raises(ValueError, match=says) as error:
        call(tokens, maps)
    assert "\n" not in str(error.value)


def test_mamba3_without_angles_does_not_rotate():
    problem = Problem(rule=NAMED["mamba3"], T=12, K=6, V=4, seed=1, initial_state=False, final_state=False)
    call, _ = posed(problem)
    x: Any = {name: torch.from_numpy(y) for name, y in call.tensors.items()}
    still, _ = mamba3(**{**x, "theta": torch.zeros_like(x["theta"])})
    none, _ = mamba3(**{**x, "theta": None})
    torch.testing.assert_close(still, none)


class TestFlaNames:
    """Layouts and names of flash-linear-attention, against the ops that they stand for."""

    def setup_method(self) -> None:
        make = torch.Generator().manual_seed(1)
        self.q, self.k = (
            torch.nn.functional.normalize(torch.randn(1, 30, 2, 8, generator=make), dim=-1) for _ in range(2)
        )
        self.v, self.g = torch.randn(1, 30, 4, 6, generator=make), -torch.rand(1, 30, 4, 8, generator=make)
        self.beta, self.h0 = torch.rand(1, 30, 4, generator=make), torch.randn(1, 4, 8, 6, generator=make)

    def test_states_may_have_values_first(self):
        arguments = (self.q, self.k, self.v, self.g, self.beta)
        o, state = fla_names.chunk_kda(*arguments, initial_state=self.h0, output_final_state=True)
        turned, last = fla_names.chunk_kda(
            *arguments, initial_state=self.h0.mT.contiguous(), output_final_state=True, state_v_first=True
        )
        assert state is not None and last is not None
        torch.testing.assert_close(turned, o)
        torch.testing.assert_close(last.mT, state)

    def test_beta_may_be_logits(self):
        logits = torch.logit(self.beta)
        plain, _ = fla_names.chunk_kda(self.q, self.k, self.v, self.g, self.beta)
        activated, _ = fla_names.chunk_kda(self.q, self.k, self.v, self.g, logits, use_beta_sigmoid_in_kernel=True)
        torch.testing.assert_close(activated, plain)
        wide, _ = fla_names.chunk_kda(
            self.q, self.k, self.v, self.g, logits, use_beta_sigmoid_in_kernel=True, allow_neg_eigval=True
        )
        torch.testing.assert_close(wide, fla_names.chunk_kda(self.q, self.k, self.v, self.g, 2 * self.beta)[0])

    def test_a_gate_with_a_lower_bound(self):
        raw, A_log = torch.randn(1, 30, 4, 8), torch.zeros(4)
        bounded, _ = fla_names.chunk_kda(
            self.q,
            self.k,
            self.v,
            raw,
            self.beta,
            use_gate_in_kernel=True,
            A_log=A_log,
            lower_bound=-5.0,
            safe_gate=True,
        )
        plain, _ = fla_names.chunk_kda(self.q, self.k, self.v, -5 * torch.sigmoid(raw), self.beta)
        torch.testing.assert_close(bounded, plain)

    def test_scalar_and_channel_decays_add_up(self):
        both, _ = fla_names.fused_recurrent_gated_delta_rule(
            self.q, self.k, self.v, g=self.g[..., 0], gk=self.g, beta=self.beta
        )
        one, _ = fla_names.chunk_kda(self.q, self.k, self.v, self.g + self.g[..., :1], self.beta)
        torch.testing.assert_close(both, one)

    def test_delta_products_are_packed_along_tokens(self):
        k, v, beta = (x.repeat_interleave(2, 1) for x in (self.k, self.v, self.beta))
        o, _ = fla_names.chunk_gated_delta_product(self.q, k, v, self.g[..., 0], beta, num_householder=2)
        # Two steps along one key erase and write as one step with 1 - (1 - beta)^2.
        once, _ = fla_names.chunk_gated_delta_rule(self.q, self.k, self.v, self.g[..., 0], 1 - (1 - self.beta) ** 2)
        torch.testing.assert_close(o, once, rtol=1e-4, atol=1e-5)

    def test_comba_takes_p(self):
        o, _ = fla_names.chunk_comba(self.q, self.k, self.v, 0.7 * self.k, self.g[..., 0], self.beta)
        expected, _ = comba(self.q, self.k, self.v, self.g[..., 0], self.beta, torch.full((4,), 0.7))
        torch.testing.assert_close(o, expected)
        with pytest.raises(ValueError, match="no multiple of k"):
            fla_names.chunk_comba(self.q, self.k, self.v, self.q, self.g[..., 0], self.beta)

    def test_rwkv7_takes_a_and_b(self):
        kk, gate = self.k, 0.1 + 0.9 * torch.rand(1, 30, 2, 8)
        w, v = -0.5 * torch.rand(1, 30, 2, 8), self.v[:, :, :2]
        o, _ = fla_names.chunk_rwkv7(self.q, w, self.q, v, -kk, kk * gate)
        torch.testing.assert_close(o, rwkv7(self.q, w, self.q, v, kk, gate, scale=1.0)[0], rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("call", "says"),
        [
            (
                lambda self: fla_names.chunk_kda(self.q, self.k, self.v, self.g, self.beta, cp_context=object()),
                "cp_context",
            ),
            (lambda self: fla_names.chunk_linear_attn(self.q, self.k, self.v), "normalize"),
            (
                lambda self: fla_names.chunk_kda(self.q, self.k, self.v, self.g, self.beta, allow_neg_eigval=True),
                "sigmoid",
            ),
            (
                lambda self: fla_names.chunk_kda(self.q, self.k, self.v, self.g, self.beta, no_such_thing=1),
                "no_such_thing",
            ),
        ],
    )
    def test_what_is_not_offered_is_refused(self, call: Callable[..., Any], says: str):
        with pytest.raises((ValueError, TypeError), match=says):
            call(self)
