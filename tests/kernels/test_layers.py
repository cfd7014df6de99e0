"""The layers: decoding, padding, packing, compilation, sizes, precision, and what they refuse."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaproof.kernels.layers import Carve, GatedDeltaNet, GatedDeltaNet2, KimiDeltaAttention, MixerConfig, from_fla
from deltaproof.kernels.layers.conv import ShortConvolution
from deltaproof.kernels.layers.mixer import Mixer

SMALL: dict[str, Any] = {"hidden_size": 12, "num_heads": 2, "head_dim": 4}
GROUPED: dict[str, Any] = {**SMALL, "num_v_heads": 4, "head_v_dim": 3}
LAYERS = {
    "gdn2": lambda **sizes: GatedDeltaNet2(MixerConfig(**sizes)),
    "kda": lambda **sizes: KimiDeltaAttention(MixerConfig(**sizes)),
    "kda-bounded": lambda **sizes: KimiDeltaAttention(MixerConfig(**sizes), lower_bound=-5.0),
    "gdn": lambda **sizes: GatedDeltaNet(MixerConfig(**sizes)),
    "carve": lambda **sizes: Carve(MixerConfig(**sizes), rank=2, chunk_size=4),
    "carve-shared": lambda **sizes: Carve(MixerConfig(**sizes), rank=2, chunk_size=4, per_head=False),
}
each_layer = pytest.mark.parametrize("name", LAYERS)


def build(name: str, **sizes) -> Mixer:
    """A layer in fp64 whose gates are far from where they start."""
    torch.manual_seed(0)
    layer = LAYERS[name](**{**GROUPED, **sizes}).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return layer


def inputs(batch: int = 2, tokens: int = 11, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(batch, tokens, 12, dtype=dtype, generator=torch.Generator().manual_seed(1))


def same(left: torch.Tensor, right: torch.Tensor) -> bool:
    return torch.allclose(left, right, rtol=0, atol=1e-12)


@each_layer
@pytest.mark.parametrize(
    "sizes", [{}, {"conv_size": 0}, {"conv_size": 1}, {"conv_bias": True, "negative_eigenvalues": True}]
)
@settings(max_examples=5)
@given(cuts=st.lists(st.integers(0, 11), max_size=4).map(sorted))
def test_decoding_equals_the_full_forward(name: str, sizes: dict[str, Any], cuts: list[int]):
    """However the tokens are cut, empty pieces included."""
    layer, x = build(name, **sizes), inputs()
    pieces, cache = [], None
    for start, end in zip([0, *cuts], [*cuts, 11], strict=True):
        y, cache = layer.decode(x[:, start:end], cache)
        pieces.append(y)
    full = layer(x)
    assert full.abs().median() > 1e-3
    assert same(torch.cat(pieces, 1), full)


@each_layer
def test_a_cache_is_a_value(name: str):
    layer, x = build(name), inputs()
    _, cache = layer.decode(x[:, :6])
    first, _ = layer.decode(x[:, 6:], cache)
    again, _ = layer.decode(x[:, 6:], cache)
    assert torch.equal(first, again)
    assert cache.windows is not None
    assert all(window.untyped_storage().nbytes() == window.nbytes for window in cache.windows)  # and not all of x


@each_layer
@settings(max_examples=5)
@given(rows=st.lists(st.lists(st.booleans(), min_size=11, max_size=11), min_size=2, max_size=2))
def test_padding_anywhere_changes_nothing(name: str, rows: list[list[bool]]):
    """Each row as if alone without its padding, whose outputs are 0, in one call and through a cache."""
    layer, x, mask = build(name), inputs(), torch.tensor(rows)
    whole = layer(x, mask=mask)
    prefill, cache = layer.decode(x[:, :7], mask=mask[:, :7])
    rest, _ = layer.decode(x[:, 7:], cache, mask=mask)  # the mask of all tokens, of which the last count
    for y in (whole, torch.cat([prefill, rest], 1)):
        assert not y[~mask].any()
        for row in range(2):
            assert same(y[row, mask[row]], layer(x[row : row + 1, mask[row]])[0])


@each_layer
def test_packed_sequences_do_not_see_each_other(name: str):
    layer, x = build(name), inputs(1)
    bounds = [0, 2, 2, 9, 11]
    y = layer(x, cu_seqlens=torch.tensor(bounds))
    alone = [layer(x[:, start:end]) for start, end in pairwise(bounds)]
    assert same(y, torch.cat(alone, 1))


@each_layer
def test_gradients_reach_every_parameter_and_are_right(name: str):
    layer, x = build(name), inputs(1, 6).requires_grad_()
    layer(x).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in layer.parameters())
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)


@each_layer
def test_gradients_flow_through_padding(name: str):
    layer, x = build(name), inputs().requires_grad_()
    mask = torch.ones(2, 11, dtype=torch.int64)
    mask[0, :3] = 0
    (grad,) = torch.autograd.grad(layer(x, mask=mask).sum(), x)
    assert not grad[0, :3].any() and grad[0, 3:].any(-1).all() and grad[1].any(-1).all()


@pytest.mark.parametrize("name", ["gdn2", "kda", "gdn", "carve"])
def test_compiles_as_one_graph(name: str):
    """Forward, then decoding a token; CARVE walks over its chunks, and so is a graph for each length."""
    torch._dynamo.reset()
    layer, x = LAYERS[name](**GROUPED), inputs(dtype=torch.float32)
    forward = torch.compile(layer, backend="eager", fullgraph=True, dynamic=False if name == "carve" else None)
    assert torch.equal(forward(x[:, :3]), layer(x[:, :3]))
    assert torch.equal(forward(x[:, :5]), layer(x[:, :5]))
    step = torch.compile(layer.decode, backend="eager", fullgraph=True)
    _, cache = layer.decode(x[:, :5])
    assert torch.equal(step(x[:, 5:6], cache)[0], layer.decode(x[:, 5:6], cache)[0])


def test_sizes_are_the_papers():
    """d = 2048, 16 heads of 128: 26,243,216 parameters for Gated DeltaNet-2; CARVE has one write gate per head instead,
    and its content map."""

    def count(layer: torch.nn.Module) -> int:
        return sum(parameter.numel() for parameter in layer.parameters())

    with torch.device("meta"):
        assert count(GatedDeltaNet2()) == 26_243_216
        for rank in (8, 16, 64):
            content = 16 * rank * (128 + 128)
            assert count(Carve(rank=rank)) == 26_243_216 - 2048 * (2048 - 16) + content
        assert count(Carve(rank=8, per_head=False)) == 26_243_216 - 2048 * (2048 - 16) + 8 * (128 + 128)
        # Kimi Delta Attention: the erase and write gates are one number per head.
        assert count(KimiDeltaAttention()) == 26_243_216 - 2 * 2048 * 2048 + 2048 * 16


def test_gdn2_with_equal_gates_is_kda():
    """The layers differ by their gates only."""
    kda = build("kda", num_v_heads=2, head_v_dim=4, gate_activation="silu")
    gdn2 = build("gdn2", num_v_heads=2, head_v_dim=4)
    shared = {name: x for name, x in kda.state_dict().items() if name != "b_proj.weight"}
    assert isinstance(kda, KimiDeltaAttention)
    spread = kda.b_proj.weight.repeat_interleave(4, 0)
    gdn2.load_state_dict({**shared, "b_proj.weight": spread, "w_proj.weight": spread})
    assert same(gdn2(inputs()), kda(inputs()))


def test_carve_starts_as_gdn2_with_one_write_gate_per_head():
    carve, gdn2 = LAYERS["carve"](**GROUPED).double(), LAYERS["gdn2"](**GROUPED).double()
    shared = {name: x for name, x in carve.state_dict().items() if name not in ("read", "lift", "w_proj.weight")}
    gdn2.load_state_dict({**shared, "w_proj.weight": carve.w_proj.weight.repeat_interleave(3, 0)})
    assert same(carve(inputs()), gdn2(inputs()))
    carve(inputs()).sum().backward()
    assert carve.lift.grad is not None and carve.lift.grad.any()  # and it can leave that start


def test_carve_depends_on_its_chunk_size():
    layer = build("carve")
    assert isinstance(layer, Carve)
    before = layer(inputs())
    layer.chunk_size = 3
    assert (layer(inputs()) - before).abs().max() > 1e-6


def test_decay_starts_in_its_range():
    torch.manual_seed(0)
    with torch.device("meta"):
        layer = GatedDeltaNet2(MixerConfig(hidden_size=8, num_heads=64, head_dim=8))
    layer.to_empty(device="cpu").reset_parameters()
    assert [name for name, p in layer.named_parameters() if hasattr(p, "_no_weight_decay")] == ["A_log", "dt_bias"]
    rate, step = layer.A_log.exp(), torch.nn.functional.softplus(layer.dt_bias)
    assert rate.min() >= 1 and rate.max() <= 16 and rate.std() > 3
    assert step.min() >= 1e-3 * 0.999 and step.max() <= 0.1 * 1.001 and 0.005 < step.median() < 0.02
    bound = 2**-2.5 * (6 / (8 + 512)) ** 0.5  # Xavier-uniform
    assert 0.95 * bound < layer.q_proj.weight.abs().max() <= bound


def test_bf16_stays_near_fp32_and_keeps_fp32_states():
    torch.manual_seed(0)
    exact = LAYERS["gdn2"](**GROUPED)
    rough = LAYERS["gdn2"](**GROUPED)
    rough.load_state_dict(exact.state_dict())
    rough.bfloat16()
    x = inputs(dtype=torch.float32)
    y, cache = rough.decode(x.bfloat16())
    wanted = exact(x)
    assert y.dtype == torch.bfloat16 and cache.memory.dtype == torch.float32
    assert (y.float() - wanted).norm() / wanted.norm() < 0.05
    with torch.autocast("cpu", torch.bfloat16):
        y = exact(x)
    assert y.dtype == torch.bfloat16 and (y.float() - wanted).norm() / wanted.norm() < 0.05


def test_the_output_gate_can_be_left_out_or_changed():
    plain = build("gdn", gate_activation="none")
    assert not [name for name in plain.state_dict() if name.startswith("g_proj")]
    assert same(plain(inputs()), plain.decode(inputs())[0])
    one, other = build("gdn2"), build("gdn2", gate_activation="sigmoid")
    assert (one(inputs()) - other(inputs())).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (lambda: MixerConfig(num_heads=4, num_v_heads=6), "num_v_heads is 6; accepted: a multiple of num_heads = 4"),
        (lambda: MixerConfig(head_dim=0), "head_dim is 0; accepted: at least 1"),
        (lambda: MixerConfig(conv_size=-1), "conv_size is -1"),
        (lambda: MixerConfig(conv_size=2.5), "conv_size is 2.5"),  # pyright: ignore
        (lambda: MixerConfig(head_dim=float("nan")), "head_dim is nan; accepted: at least 1"),  # pyright: ignore
        (lambda: MixerConfig(num_heads=True), "num_heads is True"),
        (lambda: MixerConfig(hidden_size="wide"), "hidden_size is 'wide'"),  # pyright: ignore
        (lambda: MixerConfig(norm_eps=float("nan")), "norm_eps is nan"),
        (lambda: ShortConvolution(6, 0), "size is 0; accepted: at least 1"),
        (lambda: MixerConfig(gate_activation="relu"), "gate_activation is 'relu'; accepted: silu"),  # pyright: ignore
        (lambda: KimiDeltaAttention(MixerConfig(**SMALL), lower_bound=1.0), "lower_bound is 1.0; accepted: a negative"),
        (lambda: Carve(MixerConfig(**SMALL), rank=0), "rank is 0"),
        (lambda: build("gdn")(torch.zeros(1, 2, 5)), r"x has shape \[1, 2, 5\]; accepted: \[B, T, 12\]"),
        (lambda: build("gdn")(inputs().half()), "x is float16; accepted: the layer's float64, or any under autocast"),
        (lambda: MixerConfig(head_dim=300), "head_dim is 300; accepted: at most 256"),
        (lambda: MixerConfig(head_dim=256, head_v_dim=512), "head_v_dim is 512; accepted: at most 256"),
        (lambda: build("gdn")(inputs(), mask=torch.ones(2, 4)), r"mask has shape \[2, 4\]; accepted: \[2, 11\]"),
        (lambda: build("gdn")(inputs(), cu_seqlens=torch.tensor([0, 11])), "cu_seqlens is given for a batch of 2 rows"),
        (
            lambda: build("gdn")(inputs(1), mask=torch.ones(1, 11), cu_seqlens=torch.tensor([0, 11])),
            "mask and cu_seqlens are both given",
        ),
        (lambda: build("gdn").decode(inputs(), build("gdn").decode(inputs(1))[1]), "x has 2 rows; accepted: 1"),
        (lambda: from_fla(Carve, {}), "kind is Carve; accepted: GatedDeltaNet2"),
        (lambda: from_fla(GatedDeltaNet2, {}), "state has no q_proj.weight"),
        (lambda: from_fla(GatedDeltaNet2, build("gdn2").state_dict(), num_heads=3), "num_heads is 3; accepted: 2"),
        (lambda: from_fla(GatedDeltaNet2, {**build("gdn2").state_dict(), "x": torch.ones(1)}), r"left over \['x'\]"),
    ],
)
def test_bad_input_is_refused_in_one_line(wrong, says: str):
    with pytest.raises((ValueError, TypeError), match=says) as error:
        wrong()
    assert "\n" not in str(error.value)


def test_the_kernels_import_without_the_layers():
    check = (
        "import sys, deltaproof.kernels; sys.exit(any(m.startswith('deltaproof.kernels.layers') for m in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


@pytest.mark.parametrize("name", ["gdn2", "kda", "gdn", "carve"])
def test_kernels_serve_the_layers(name: str, monkeypatch: pytest.MonkeyPatch):
    """What a GPU runs, in the interpreter: outputs, and the gradients of every parameter and of the input."""
    layer, x = build(name).float(), inputs(1, 6, torch.float32).requires_grad_()
    tensors = [x, *layer.parameters()]
    wanted = [y := layer(x), *torch.autograd.grad(y.square().sum(), tensors)]
    monkeypatch.setattr("deltaproof.kernels.api._choose", lambda *_: "staged")
    found = [y := layer(x), *torch.autograd.grad(y.square().sum(), tensors)]
    for left, right in zip(found, wanted, strict=True):
        assert (left - right).norm() <= 1e-5 * right.norm()
