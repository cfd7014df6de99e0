"""The public op: registration, tracing, agreement of its variants, and the rules by name."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from deltaproof import kernels
from deltaproof.kernels import LaunchConfig, chunk_indices, gated_delta_rule
from deltaproof.kernels.ops import library
from deltaproof.specs.rule import RULES, Rule

B, T, H, HV, K, V = 2, 21, 1, 2, 20, 24
CONFIG = LaunchConfig(chunk_size=16)


def make(rule: Rule, B: int = B, T: int = T, HV: int = HV) -> dict[str, Any]:
    """Inputs of a rule, all of which want a gradient."""
    draw = torch.Generator().manual_seed(0)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=draw)

    def gate(tied: str, channels: int) -> torch.Tensor | None:
        return None if tied in ("none", "tied") else rand(B, T, HV, *([channels] if tied == "channel" else []))

    g = gate(rule.decay, K)
    tensors = {
        "q": F.normalize(rand(B, T, H, K) - 0.5, dim=-1),
        "k": F.normalize(rand(B, T, H, K) - 0.5, dim=-1),
        "v": rand(B, T, HV, V) - 0.5,
        "g": None if g is None else -g,
        "b": gate(rule.erase, K),
        "w": gate(rule.write, V),
        "initial_state": rand(B, HV, K, V) - 0.5,
    }
    return {name: x.requires_grad_() for name, x in tensors.items() if x is not None}


def differentiate(tensors: dict[str, Any], **options: Any) -> dict[str, torch.Tensor]:
    """Outputs and gradients of a call, pulled back from fixed random gradients of both outputs."""
    o, ht = gated_delta_rule(**tensors, output_final_state=True, **options)
    assert ht is not None
    draw = torch.Generator().manual_seed(1)
    seeds = [(torch.rand(x.shape, generator=draw) - 0.5).to(x.dtype) for x in (o, ht)]
    grads = torch.autograd.grad([o, ht], list(tensors.values()), seeds)
    return {"o": o, "ht": ht} | {f"d{name}": grad for name, grad in zip(tensors, grads, strict=True)}


@pytest.mark.parametrize("rule", RULES.values(), ids=list(RULES))
def test_staged_agrees_with_torch_in_fp64(rule: Rule):
    tensors = make(rule)
    wide = {name: x.detach().double().requires_grad_() for name, x in tensors.items()}
    found, expected = differentiate(tensors, variant="staged", config=CONFIG), differentiate(wide, variant="torch")
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].double(), value, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("disable_recompute", [False, True])
@pytest.mark.parametrize("rule", ["gdn2", "kda", "linear"])
def test_opcheck(rule: str, disable_recompute: bool):
    packed = {
        name: x.detach().flatten(0, 1).requires_grad_()
        for name, x in make(RULES[rule], 1, T, 1).items()
        if name != "initial_state"
    }
    boundaries = torch.tensor([0, 4, T])
    tables = chunk_indices(boundaries, T).of(CONFIG.chunk_size) if rule == "kda" else None
    arguments = {name: packed.get(name) for name in ("q", "k", "v", "g", "b", "w")} | {
        "h0": torch.zeros(2, 1, K, V, requires_grad=True) if rule == "gdn2" else None,
        "cu_seqlens": None if rule == "linear" else boundaries.to(torch.int32 if disable_recompute else torch.int64),
        "chunks": tables and tables.chunks,
        "first_chunk": tables and tables.first_chunk,
        "sequences": 1 if rule == "linear" else 2,
        "scale": 0.3,
        "config": CONFIG.token,
        "final": rule != "linear",
    }
    torch.library.opcheck(library.chunk_train.overload, (), arguments | {"disable_recompute": disable_recompute})
    with torch.no_grad():
        torch.library.opcheck(library.chunk_fwd.overload, (), arguments)
        torch.library.opcheck(library.recurrent.overload, (), arguments)


def test_opcheck_of_the_first_stage():
    torch.library.opcheck(library.l2norm.overload, (torch.rand(5, 2, K, requires_grad=True),))
    f, A_log, dt_bias = torch.rand(5, HV, K), torch.rand(HV), torch.rand(HV * K)
    torch.library.opcheck(library.decay_gate.overload, tuple(x.requires_grad_() for x in (f, A_log, dt_bias)))


@pytest.mark.parametrize("variant", ["staged", "torch"])
def test_compiles_without_graph_breaks(variant: str):
    tensors = make(RULES["gdn2"], B=1, HV=1)

    def loss(**call: Any) -> torch.Tensor:
        o, ht = gated_delta_rule(**call, output_final_state=True, variant=variant, config=CONFIG)
        assert ht is not None
        return o.square().sum() + ht.square().sum()

    eager = torch.autograd.grad(loss(**tensors), list(tensors.values()))
    traced = torch.compile(loss, backend="aot_eager", fullgraph=True)
    compiled = torch.autograd.grad(traced(**tensors), list(tensors.values()))
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_first_stage_agrees_with_torch():
    tensors: dict[str, Any] = make(RULES["gdn2"]) | {
        "A_log": torch.linspace(-1, 1, HV, requires_grad=True),
        "dt_bias": torch.linspace(-9, 9, HV * K, requires_grad=True),
    }
    options = {"use_qk_l2norm_in_kernel": True, "use_gate_in_kernel": True}
    wide = {name: x.detach().double().requires_grad_() for name, x in tensors.items()}
    found = differentiate(tensors, variant="staged", config=CONFIG, **options)
    expected = differentiate(wide, variant="torch", **options)
    for name, value in expected.items():
        torch.testing.assert_close(
            found[name].double(), value, rtol=1e-4, atol=1e-6, msg=lambda m, name=name: f"{name}: {m}"
        )


@pytest.mark.parametrize("rule", ["gdn2", "gdn"])
@pytest.mark.parametrize("variant", ["packed", "fused"])
def test_raw_inputs_in_the_kernel_agree_with_torch(variant: str, rule: str):
    made = {name: x.detach() for name, x in make(RULES[rule]).items()}
    wide = 1 if rule == "gdn" else K
    raw = {"A_log": torch.linspace(-1, 1, HV), "dt_bias": torch.linspace(-9, 9, HV * wide)}
    options: dict[str, Any] = {
        "use_qk_l2norm_in_kernel": True, "use_gate_in_kernel": True, "output_final_state": True
    }  # fmt: skip
    found = gated_delta_rule(**made, **raw, variant=variant, config=CONFIG, **options)
    doubles = {name: x.double() for name, x in (made | raw).items()}
    expected = gated_delta_rule(**doubles, variant="torch", **options)
    for value, right in zip(found, expected, strict=True):
        assert value is not None and right is not None
        torch.testing.assert_close(value.double(), right, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("variant", ["packed", "fused"])
def test_opcheck_of_inference_on_raw_inputs(variant: str):
    operator = {"packed": library.chunk_packed, "fused": library.chunk_fused}[variant]
    given = make(RULES["gdn2"], 2, 9, 1)
    arguments = {name: given[name].detach().flatten(0, 1) for name in ("q", "k", "v", "g", "b", "w")} | {
        "h0": None,
        "first_chunk": None,
        "sequences": 2,
        "scale": 0.3,
        "config": CONFIG.token,
        "A_log": torch.zeros(1),
        "dt_bias": torch.zeros(K),
        "normalise": True,
        "final": True,
    }
    boundaries = torch.tensor([0, 1, 18])
    chunks = chunk_indices(boundaries, 18).of(CONFIG.chunk_size).chunks
    for cu_seqlens, table in ((boundaries, None), (boundaries, chunks), (None, None)):
        torch.library.opcheck(operator.overload, (), arguments | {"cu_seqlens": cu_seqlens, "chunks": table})


def test_opcheck_of_decoding():
    given = make(RULES["gdn2"])
    arguments = {name: given[name].detach()[:, 0].contiguous() for name in ("q", "k", "v", "g", "b", "w")} | {
        "A_log": torch.zeros(HV),
        "dt_bias": torch.zeros(HV * K),
        "normalise": True,
        "states": torch.zeros(3, HV, K, V),
        "slots": torch.tensor([2, 0]),
        "cu_seqlens": None,
        "sequences": B,
        "scale": 0.3,
        "v_first": False,
        "block": 16,
        "num_warps": 1,
    }
    torch.library.opcheck(library.decode.overload, (), arguments)


@pytest.mark.parametrize("variant", ["staged", "torch"])
def test_gates_far_above_zero_have_finite_gradients(variant: str):
    tensors = make(RULES["gdn"]) | {"A_log": torch.zeros(HV, requires_grad=True)}
    tensors["g"] = torch.full((B, T, HV), 200.0, requires_grad=True)
    tensors["dt_bias"] = torch.zeros(HV, requires_grad=True)
    found = differentiate(tensors, variant=variant, use_gate_in_kernel=True)
    assert all(value.isfinite().all() for value in found.values())


@pytest.mark.parametrize("variant", ["split", "packed", "fused", "tokens"])
def test_inference_variants_refuse_to_be_differentiated(variant: str):
    tensors = make(RULES["gdn2"])
    with pytest.raises(ValueError, match=f"variant='{variant}' has no backward"):
        gated_delta_rule(**tensors, variant=variant)
    with torch.no_grad():
        o, _ = gated_delta_rule(**tensors, variant=variant)
        torch.testing.assert_close(o, gated_delta_rule(**tensors, variant="torch")[0], rtol=1e-5, atol=1e-6)


def test_unknown_variant_lists_the_known_ones():
    with pytest.raises(ValueError, match="variant='fast'; accepted: staged, split, tokens, fused, packed, torch"):
        gated_delta_rule(**make(RULES["linear"]), variant="fast")


@pytest.mark.parametrize("variant", ["staged", "split", "packed", "fused", "tokens", "torch"])
@pytest.mark.parametrize("tokens", [0, 1])
def test_no_tokens_or_one(variant: str, tokens: int):
    tensors = {
        n: x.detach() if n == "initial_state" else x.detach()[:, :tokens] for n, x in make(RULES["gdn2"]).items()
    }
    o, ht = gated_delta_rule(**tensors, output_final_state=True, variant=variant)
    assert o.shape == (B, tokens, HV, V)
    assert ht is not None
    assert not ht.isnan().any()
    if tokens == 0:
        torch.testing.assert_close(ht, tensors["initial_state"], rtol=0, atol=0)


def test_named_rules_are_the_op_with_their_gates():
    for name, rule in RULES.items():
        tensors = make(rule)
        state = {"initial_state": tensors.pop("initial_state")}
        o, _ = getattr(kernels, name)(*tensors.values(), **state)
        torch.testing.assert_close(o, gated_delta_rule(**tensors, **state)[0], rtol=0, atol=0)


def test_named_rules_refuse_gates_of_another_tie():
    tensors = make(RULES["gdn2"])
    tensors.pop("initial_state")
    with pytest.raises(ValueError, match=r"beta has shape .* takes \[B, T, heads\]"):
        kernels.kda(tensors["q"], tensors["k"], tensors["v"], tensors["g"], tensors["b"])
