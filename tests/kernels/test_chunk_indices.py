"""Chunk indices of packed sequences: given once, used by every call; and nobody waits for the device to know them."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from deltaproof.kernels import LaunchConfig, chunk_indices, fla_names, gated_delta_rule
from deltaproof.kernels.configs.launch_config import CHUNK_SIZES
from deltaproof.kernels.layers.conv import ShortConvolution
from deltaproof.kernels.ops import library
from deltaproof.kernels.relatives import gated_delta_product, mamba3, rwkv7
from tests.helpers.pretended_gpu import Waited, pretended_gpu

T, H, K, V = 45, 2, 16, 16
BOUNDARIES = [0, 3, 3, 40, T]
TABLED = ("staged", "split")
VARIANTS = ("staged", "split", "packed", "fused", "tokens", "torch")
CONFIG = LaunchConfig(chunk_size=16)


def tensors(device: str = "cpu", **options: Any) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(0)

    def rand(channels: int) -> torch.Tensor:
        return torch.rand(1, T, H, channels, generator=draw)

    made = {"q": rand(K), "k": F.normalize(rand(K), dim=-1), "v": rand(V), "g": -rand(K), "b": rand(K), "w": rand(V)}
    return {name: on(device, x) for name, x in made.items()} | options


def boundaries(device: str = "cpu", dtype: torch.dtype = torch.int64) -> torch.Tensor:
    return on(device, torch.tensor(BOUNDARIES, dtype=dtype))


def on(device: str, x: torch.Tensor) -> torch.Tensor:
    return x if device == "cpu" else torch.empty(x.shape, dtype=x.dtype, device=device)


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_answer_is_the_same_bits(variant: str, dtype: torch.dtype):
    cu_seqlens = boundaries(dtype=dtype)
    call = tensors(cu_seqlens=cu_seqlens, variant=variant, config=CONFIG, output_final_state=True)
    given = chunk_indices(cu_seqlens, T)
    for with_it, without in zip(gated_delta_rule(**call, chunk_indices=given), gated_delta_rule(**call), strict=True):
        assert with_it is not None and without is not None
        assert torch.equal(with_it, without)


def test_gradients_are_the_same_bits():
    found = []
    for given in (None, chunk_indices(boundaries(), T, [16])):
        call = {name: x.requires_grad_() for name, x in tensors().items()}
        o, _ = gated_delta_rule(**call, cu_seqlens=boundaries(), chunk_indices=given, variant="staged", config=CONFIG)
        found.append(torch.autograd.grad(o.square().sum(), list(call.values())))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


def test_a_traced_call_takes_them():
    given = chunk_indices(boundaries(), T, [16])
    call = {name: x.requires_grad_() for name, x in tensors().items()}

    def loss(indices: Any, **call: Any) -> torch.Tensor:
        o, _ = gated_delta_rule(**call, cu_seqlens=boundaries(), chunk_indices=indices, variant="staged", config=CONFIG)
        return o.square().sum()

    eager = torch.autograd.grad(loss(given, **call), list(call.values()))
    traced = torch.compile(loss, backend="aot_eager", fullgraph=True)
    for one, other in zip(torch.autograd.grad(traced(given, **call), list(call.values())), eager, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("variant", TABLED)
def test_nothing_is_computed_from_boundaries_where_they_are_given(variant: str):
    """In forward and backward; and without them something is, so that this can fail."""
    counts = []
    with pretended_gpu() as watch:
        cu_seqlens = boundaries("meta")
        for given in (chunk_indices(cu_seqlens, T), None):
            watch.indexing.clear()
            call = tensors("meta", cu_seqlens=cu_seqlens, chunk_indices=given, variant=variant)
            if variant == "staged":
                call["q"].requires_grad_()
            o, _ = gated_delta_rule(**call, use_qk_l2norm_in_kernel=True)
            if variant == "staged":
                o.sum().backward()
            counts.append(len(watch.indexing))
    assert counts[0] == 0
    assert counts[1] > 0


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("variant", VARIANTS[:-1])
def test_no_variant_waits_for_the_device_or_keeps_a_tensor_for_the_next_call(variant: str, packed: bool):
    """What one call made and kept, another would read in a graph, on a stream or on a device where it was never written."""
    options = {"variant": variant, "use_qk_l2norm_in_kernel": True, "use_gate_in_kernel": True}
    with pretended_gpu() as watch:
        raw = {"A_log": torch.empty(H, device="meta"), "dt_bias": torch.empty(H * K, device="meta")}
        call = tensors("meta", **raw, **options, cu_seqlens=boundaries("meta") if packed else None)
        # Lengths that no other test has: their first call is the first.
        length = 1000 + 2 * VARIANTS.index(variant) + packed
        call |= {name: torch.empty(1, length, *call[name].shape[2:], device="meta") for name in "qkvgbw"}
        runs = []
        for _ in range(2):
            watch.made.clear()
            o, _ = gated_delta_rule(**call)
            runs.append(list(watch.made))
        assert o.shape == (1, length, H, V)
    assert runs[0] == runs[1]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("disable_recompute", [False, True])
def test_the_backward_reads_the_tables_that_the_forward_made(packed: bool, disable_recompute: bool):
    """Which makes them of equally long sequences in one copy."""
    with pretended_gpu() as watch:
        call = tensors("meta", cu_seqlens=boundaries("meta") if packed else None, variant="staged")
        call["q"].requires_grad_()
        o, _ = gated_delta_rule(**call, disable_recompute=disable_recompute)
        copies = [name for name in watch.made if name.startswith("aten.to.")]
        assert (len(copies), bool(watch.indexing)) == ((0, True) if packed else (1, False))
        watch.made.clear()
        watch.indexing.clear()
        o.sum().backward()
        assert not watch.indexing
        assert not any(name.startswith(("aten.to.", "aten.zeros", "aten.arange")) for name in watch.made)


def test_the_backward_does_not_wait():
    with pretended_gpu():
        call = tensors("meta")
        leaves = [x.requires_grad_() for x in call.values()]
        o, ht = gated_delta_rule(**call, cu_seqlens=boundaries("meta"), output_final_state=True, variant="staged")
        assert ht is not None
        assert all(x.is_meta for x in torch.autograd.grad(o.sum() + ht.sum(), leaves))


def test_decoding_does_not_wait():
    with pretended_gpu():
        # The operator: on tensors that are not on a GPU, `decode` itself may walk in torch.
        flat = {name: x.flatten(0, 1) for name, x in tensors("meta").items()}
        states = torch.empty(9, H, K, V, device="meta")
        slots = torch.empty(4, dtype=torch.int32, device="meta")
        o = library.decode(
            **flat, A_log=None, dt_bias=None, normalise=True, states=states, slots=slots, cu_seqlens=boundaries("meta"),
            sequences=4, scale=1.0, v_first=False, block=32, num_warps=4,
        )  # fmt: skip
        assert o.shape == (T, H, V)


def test_a_short_convolution_of_packed_sequences_does_not_wait():
    with pretended_gpu():
        with torch.device("meta"):
            conv = ShortConvolution(6, 4)
        x, window = torch.empty(1, T, 6, device="meta"), torch.empty(4, 3, 6, device="meta")
        assert conv(x, window, boundaries("meta"))[0].shape == x.shape


@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("name", ["delta_product", "rwkv7", "mamba3"])
def test_relatives_of_several_steps_per_token_take_a_copy_and_do_not_wait(name: str, device: str):
    x = tensors(device)
    q, k, v, g, b, scalar = x["q"], x["k"], x["v"], x["g"], x["b"], x["b"][..., 0]
    calls: dict[str, Any] = {
        "delta_product": lambda **options: gated_delta_product(
            q, k[:, :, None], v[:, :, None], -scalar, scalar[:, :, None], **options
        ),
        "rwkv7": lambda **options: rwkv7(q, g, k, v, k, b, **options),
        "mamba3": lambda **options: mamba3(q, k, v, -scalar, scalar, scalar, g[..., : K // 2], **options),
    }
    options = {"cu_seqlens": boundaries(device), "cu_seqlens_cpu": torch.tensor(BOUNDARIES), "variant": "split"}
    with pretended_gpu() if device == "meta" else nullcontext():
        o, _ = calls[name](**options)
    assert o.shape == v.shape
    if device == "cpu":
        torch.testing.assert_close(o, calls[name](cu_seqlens=boundaries())[0], rtol=1e-4, atol=1e-5)


def test_the_torch_path_reads_only_the_copy():
    with pretended_gpu():
        call = tensors("meta", cu_seqlens=boundaries("meta"), variant="torch")
        o, _ = gated_delta_rule(**call, cu_seqlens_cpu=torch.tensor(BOUNDARIES))
        assert o.shape == (1, T, H, V)
        with pytest.raises((Waited, NotImplementedError)):
            gated_delta_rule(**call)


def test_they_are_a_copy_for_every_chunk_size():
    cu_seqlens = boundaries()
    made = chunk_indices(cu_seqlens, T)
    cu_seqlens[1] = 0
    for chunk_size in CHUNK_SIZES:
        layout = made.of(chunk_size)
        assert layout.cu_seqlens.tolist() == BOUNDARIES
        assert layout.chunks[:, 1].sum() == T


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "another chunk size": (
        {"chunk_indices": chunk_indices(boundaries(), T, [32, 64]), "config": CONFIG, "variant": "split"},
        "chunk_indices is for chunks of 32, 64 tokens; accepted: for 16, the chunk size of",
    ),
    "another number of sequences": (
        {"chunk_indices": chunk_indices(torch.tensor([0, T]), T)},
        "chunk_indices is for 1 sequences of 45 tokens together; accepted: for the 4 and 45 of this call",
    ),
    "another number of tokens": (
        {"chunk_indices": chunk_indices(torch.tensor([0, 3, 3, 40, 50]), 50)}, "for 4 sequences of 50 tokens together",
    ),
    "other boundaries": (
        {"chunk_indices": chunk_indices(torch.tensor([0, 3, 3, 41, T]), T)}, "built from different cu_seqlens",
    ),
    "another device": ({"chunk_indices": chunk_indices(boundaries("meta"), T)}, "chunk_indices is on meta"),
    "no boundaries": ({"cu_seqlens": None, "chunk_indices": chunk_indices(boundaries(), T)}, "without cu_seqlens"),
    "a tensor": ({"chunk_indices": torch.zeros(3, 2)}, "chunk_indices is of type Tensor; accepted: what"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_others_are_refused_in_one_line(what: str):
    change, message = REFUSED[what]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        gated_delta_rule(**tensors(cu_seqlens=boundaries()) | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((BOUNDARIES, T), "cu_seqlens is list; accepted: a dense int32 or int64 tensor"),
        ((torch.tensor([0.0, 4.0]), 4), "cu_seqlens is float32"),
        ((torch.tensor([0]), T), r"cu_seqlens has shape \[1\]; accepted: \[N \+ 1\]"),
        ((boundaries(), -1), "tokens is -1"),
        ((torch.tensor([3, 1]), 1), r"cu_seqlens is \[3, 1\]; accepted: from 0 to tokens = 1, never falling"),
        ((torch.tensor([0, 5, 3, 9]), 9), "never falling"),
        ((boundaries(), T + 1), "from 0 to tokens = 46"),
        ((boundaries(), T, [48]), r"chunk_sizes is \[48\]; accepted: one or more of 16, 32, 64, 128"),
        ((boundaries(), T, []), r"chunk_sizes is \[\]"),
    ],
)
def test_tables_of_bad_arguments_are_refused_in_one_line(arguments: tuple[Any, ...], message: str):
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        chunk_indices(*arguments)
    assert "\n" not in str(caught.value)


def test_under_the_names_of_fla_ours_are_used_and_theirs_change_nothing():
    x = tensors()
    arguments = (x["q"], x["k"], x["v"], x["g"], x["b"][..., 0])
    expected, _ = fla_names.chunk_kda(*arguments, cu_seqlens=boundaries())
    theirs = torch.tensor([[0, 0], [2, 0], [3, 0]])
    for given in (theirs, chunk_indices(boundaries(), T)):
        o, _ = fla_names.chunk_kda(*arguments, cu_seqlens=boundaries(), chunk_indices=given)
        assert torch.equal(o, expected)
    other = chunk_indices(torch.tensor([0, 3, 3, 41, T]), T)
    with pytest.raises(ValueError, match="built from different cu_seqlens"):
        fla_names.chunk_kda(*arguments, cu_seqlens=boundaries(), chunk_indices=other)
