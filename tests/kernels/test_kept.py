"""What a call keeps for its backward pass changes no bit, whoever asks for gradients, how often and through what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils.checkpoint import checkpoint

from deltaproof.kernels import LaunchConfig, fla_names, gated_delta_rule
from deltaproof.kernels.relatives import gated_delta_product
from deltaproof.specs.rule import RULES, Rule

H, K, V = 1, 8, 12
CONFIG = LaunchConfig(chunk_size=16)
Tensors = dict[str, torch.Tensor]


def make(
    rule: Rule, lengths: list[int], HV: int = 2, dtype: torch.dtype = torch.float32, states: bool = True
) -> Tensors:
    """Inputs of a rule for packed sequences."""
    draw, T = torch.Generator().manual_seed(sum(lengths)), sum(lengths)

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=draw)

    def gate(tied: str, channels: int) -> torch.Tensor | None:
        return None if tied in ("none", "tied") else rand(1, T, HV, *([channels] if tied == "channel" else []))

    q, k = (F.normalize(rand(1, T, H, K) - 0.5, dim=-1) for _ in range(2))
    g = gate(rule.decay, K)
    given = {"q": q, "k": k, "v": rand(1, T, HV, V) - 0.5, "b": gate(rule.erase, K), "w": gate(rule.write, V)}
    made = {name: x.to(dtype) for name, x in given.items() if x is not None} | ({} if g is None else {"g": -g})
    return made | ({"initial_state": rand(len(lengths), HV, K, V) - 0.5} if states else {})


def packed(lengths: list[int], dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return torch.tensor([sum(lengths[:i]) for i in range(len(lengths) + 1)], dtype=dtype)


def gradients(
    tensors: Tensors, *, frozen: tuple[str, ...] = (), times: int = 1, wrap: Any = None, **options: Any
) -> Tensors:
    """Outputs and gradients of the op, or of what `wrap` makes of it."""
    leaves = {name: x.detach().requires_grad_(name not in frozen) for name, x in tensors.items()}
    options = {"variant": "staged", "config": CONFIG, "output_final_state": True} | options
    o, ht = (wrap or (lambda op, **call: op(**call)))(gated_delta_rule, **leaves, **options)
    wanted = [name for name in leaves if name not in frozen]
    draw = torch.Generator().manual_seed(3)
    seeds = [(torch.rand(x.shape, generator=draw) - 0.5).to(x.dtype) for x in (o, ht)]
    found: Tensors = {"o": o, "ht": ht}
    for turn in range(times):
        pulled = torch.autograd.grad([o, ht], [leaves[name] for name in wanted], seeds, retain_graph=turn + 1 < times)
        found |= {f"d{name}, {turn}": x for name, x in zip(wanted, pulled, strict=True)}
    return {name: x.detach() for name, x in found.items()}


def require_same(one: Tensors, other: Tensors) -> None:
    assert one.keys() == other.keys()
    for name, x in one.items():
        assert torch.equal(x, other[name]), name


@settings(max_examples=6)
@given(
    rule=st.sampled_from(sorted(RULES)),
    lengths=st.lists(st.sampled_from([0, 1, 5, 18]), min_size=1, max_size=3),
    even=st.booleans(),
    heads=st.integers(1, 2),
    dtype=st.sampled_from([torch.float32, torch.bfloat16]),
    states=st.booleans(),
    boundaries=st.sampled_from([torch.int32, torch.int64]),
)
def test_results_and_gradients_are_the_same_bits(
    rule: str, lengths: list[int], even: bool, heads: int, dtype: torch.dtype, states: bool, boundaries: torch.dtype
):
    tensors = make(RULES[rule], lengths[:1] if even else lengths, heads, dtype, states)
    options: dict[str, Any] = {"cu_seqlens": None if even else packed(lengths, boundaries)}
    require_same(*(gradients(tensors, **options, disable_recompute=choice) for choice in (False, True)))


@pytest.mark.parametrize("rule", ["gdn2", "gdn"])
def test_a_sequence_has_the_same_bits_alone_and_among_others(rule: str):
    lengths = [5, 0, 18]
    tensors, bounds = make(RULES[rule], lengths), packed(lengths)
    leaves = {name: x.requires_grad_() for name, x in tensors.items()}
    options: dict[str, Any] = {
        "variant": "staged",
        "config": CONFIG,
        "disable_recompute": True,
        "output_final_state": True,
    }
    o, ht = gated_delta_rule(**leaves, cu_seqlens=bounds, **options)
    assert ht is not None
    together = torch.autograd.grad(o.sum() + ht.sum(), list(leaves.values()))
    for n, (first, end) in enumerate(zip(bounds[:-1].tolist(), bounds[1:].tolist(), strict=True)):
        mine = [slice(n, n + 1) if name == "initial_state" else (slice(None), slice(first, end)) for name in leaves]
        alone = {name: x.detach()[at].requires_grad_() for (name, x), at in zip(leaves.items(), mine, strict=True)}
        o_alone, ht_alone = gated_delta_rule(**alone, **options)
        assert ht_alone is not None
        assert torch.equal(o_alone, o[:, first:end])
        assert torch.equal(ht_alone[0], ht[n])
        pulled = torch.autograd.grad(o_alone.sum() + ht_alone.sum(), list(alone.values()))
        for name, one, all_of_them, at in zip(leaves, pulled, together, mine, strict=True):
            assert torch.equal(one, all_of_them[at]), name


def in_checkpoint(op: Callable[..., Any], **call: Any) -> Any:
    return checkpoint(lambda: op(**call), use_reentrant=False)


def under_autocast(op: Callable[..., Any], **call: Any) -> Any:
    with torch.autocast("cpu", torch.bfloat16):
        return op(**call)


def compiled(op: Callable[..., Any], **call: Any) -> Any:
    return torch.compile(op, backend="aot_eager", fullgraph=True)(**call)


def twice_in_one_graph(op: Callable[..., Any], **call: Any) -> Any:
    o, ht = op(**call)
    again, last = op(**call | {"initial_state": ht})
    return o + again, last


PACKED = {"cu_seqlens": packed([4, 9])}
WAYS: dict[str, dict[str, Any]] = {
    "checkpoint": {"wrap": in_checkpoint},
    "autocast": {"wrap": under_autocast},
    "torch.compile": {"wrap": compiled},
    "torch.compile of a packed call": {"wrap": compiled} | PACKED,
    "a second backward pass": {"times": 2} | PACKED,
    "two calls of one graph": {"wrap": twice_in_one_graph},
    "frozen keys and gates": {"frozen": ("q", "k", "g", "b", "w")},
    "a frozen state": {"frozen": ("initial_state",)},
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_is_around_the_call(way: str):
    tensors = make(RULES["gdn2"], [4, 9] if "cu_seqlens" in WAYS[way] else [13])
    require_same(*(gradients(tensors, **WAYS[way], disable_recompute=choice) for choice in (False, True)))


@pytest.mark.parametrize("disable_recompute", [False, True])
def test_a_call_in_inference_mode_leaves_nothing_that_training_cannot_read(disable_recompute: bool):
    """Lengths that no other test has: the first call of them is the one that makes the table."""
    tensors = make(RULES["gdn2"], [33 + disable_recompute])
    options = {"variant": "staged", "config": CONFIG, "disable_recompute": disable_recompute}
    with torch.inference_mode():
        expected, _ = gated_delta_rule(**tensors, **options)
    assert torch.equal(gradients(tensors, disable_recompute=disable_recompute)["o"], expected)


def saved(call: Callable[[], Any]) -> int:
    """Bytes that lie in memory between the passes."""
    found: dict[int, int] = {}

    def note(x: torch.Tensor) -> torch.Tensor:
        found[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(note, lambda x: x):
        o, _ = call()
        assert o.requires_grad
    return sum(found.values())


def test_it_keeps_what_the_docstring_says():
    """Also where the names of flash-linear-attention and the relatives hand it on."""
    T = 48
    made = {name: x.requires_grad_() for name, x in make(RULES["gdn"], [T], H, torch.bfloat16, states=False).items()}
    options: dict[str, Any] = {"variant": "staged", "config": CONFIG}
    calls: dict[str, Callable[..., Any]] = {
        "op": lambda **more: gated_delta_rule(**made, **options, **more),
        "fla": lambda **more: fla_names.chunk_gated_delta_rule(
            made["q"], made["k"], made["v"], made["g"], made["b"], **options, **more
        ),
        "relative": lambda **more: gated_delta_product(
            made["q"], made["k"][:, :, None], made["v"][:, :, None], made["g"], made["b"][:, :, None], **options, **more
        ),
    }
    chunks = T // CONFIG.chunk_size
    expected = 2 * T * (3 * K + V) + chunks * (2 * K * V + 4)
    for name, call in calls.items():
        assert saved(lambda call=call: call(disable_recompute=True)) - saved(call) == expected, name
