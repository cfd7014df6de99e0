"""What wraps a call: vmap, fake tensors, tracers, autocast, checkpoints and export. Each works, or is refused in one line."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx.experimental.proxy_tensor import make_fx
from torch.utils.checkpoint import checkpoint

from deltaproof.kernels import gated_delta_rule
from deltaproof.kernels.layers import Carve, GatedDeltaNet, GatedDeltaNet2, KimiDeltaAttention, MixerConfig
from deltaproof.kernels.relatives import comba, rwkv7

SIZES = MixerConfig(hidden_size=8, num_heads=2, head_dim=4)
KINDS = (GatedDeltaNet2, KimiDeltaAttention, GatedDeltaNet, Carve)


def inputs(*batch: int) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(*batch, 1, 20, 2, 8, generator=generator) for _ in range(3))
    g, b = (torch.rand(*batch, 1, 20, 2, generator=generator) for _ in range(2))
    return F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, -g, b


def call(*tensors: Tensor, **options: Any) -> Tensor:
    return gated_delta_rule(*tensors, **options)[0]


def under_vmap(**options: Any) -> Tensor:
    return torch.vmap(lambda q, k, v, g, b: call(q, k, v, g, b, **options))(*inputs(3))


def fake(**options: Any) -> Tensor:
    with FakeTensorMode():
        return call(*inputs(), **options)


def traced(**options: Any) -> Tensor:
    return make_fx(lambda *tensors: call(*tensors, **options))(*inputs())(*inputs())


def test_vmap_is_a_loop():
    assert torch.allclose(under_vmap(), torch.stack([call(*row) for row in zip(*inputs(3), strict=True)]), atol=1e-6)
    q, k, *_ = inputs()
    gradient = torch.func.vmap(torch.func.grad(lambda v, g: call(q, k, v, g).sum()))(*inputs(3)[2:4])
    assert gradient.shape == (3, 1, 20, 2, 8)


def test_fake_tensors_and_tracers_see_the_shapes():
    assert fake().shape == (1, 20, 2, 8)
    assert torch.equal(traced(), call(*inputs()))
    assert call(*(x.to("meta") for x in inputs())).shape == (1, 20, 2, 8)


@pytest.mark.parametrize("wrapped", [under_vmap, fake, traced])
def test_who_insists_on_checked_values_is_told_the_way_out(wrapped: Callable[..., Tensor]):
    with pytest.raises(ValueError, match=r"^g has no contents .* check_values=False") as caught:
        wrapped(check_values=True)
    assert "\n" not in str(caught.value)


def relative(name: str, *tensors: Any, **options: Any) -> Tensor:
    q, k, v, g, b = tensors
    if name == "comba":
        return comba(q, k, v, g, b, torch.ones(2), **options)[0]
    return rwkv7(q, -torch.ones_like(q), k, v, k, torch.full_like(q, 0.5), **options)[0]


@pytest.mark.parametrize("name", ["comba", "rwkv7"])
def test_relatives_that_check_values_of_their_own_work_where_there_are_none(name: str):
    rows = torch.stack([relative(name, *row) for row in zip(*inputs(3), strict=True)])
    assert torch.allclose(torch.vmap(lambda *row: relative(name, *row))(*inputs(3)), rows, atol=1e-6)
    with FakeTensorMode():
        assert relative(name, *inputs()).shape == (1, 20, 2, 8)
    with pytest.raises(ValueError, match=r"^[gw] has no contents .* check_values=False"):
        torch.vmap(lambda *row: relative(name, *row, check_values=True))(*inputs(3))


@pytest.mark.parametrize("name", ["comba", "rwkv7"])
def test_a_relative_asks_no_more_of_an_op_than_it_is_asked(name: str):
    def op(*, q: Tensor, k: Tensor, v: Tensor, g: Tensor, b: Tensor, w: Tensor) -> tuple[Tensor, Tensor | None]:
        return gated_delta_rule(q, k, v, g, b, w)

    packing = {"cu_seqlens": None, "cu_seqlens_cpu": None}
    unpacked = lambda **given: op(**{key: x for key, x in given.items() if key not in packing})  # noqa: E731
    assert torch.equal(relative(name, *inputs(), op=unpacked), relative(name, *inputs()))


def test_autocast_leaves_the_op_its_precision():
    plain, exact = call(*inputs()), call(*(x.double() for x in inputs()))
    with torch.autocast("cpu", torch.bfloat16):
        inside = call(*inputs())
        _, state = gated_delta_rule(*inputs(), output_final_state=True)
    assert torch.equal(inside, plain)
    assert state is not None and state.dtype == torch.float32
    assert (inside.double() - exact).norm() < 1e-6 * exact.norm()


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_under_vmap_and_checkpoints(kind: type[torch.nn.Module]):
    layer = kind(SIZES)  # pyright: ignore[reportCallIssue]
    x = torch.randn(3, 2, 10, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(torch.vmap(layer)(x), torch.stack([layer(row) for row in x]), atol=1e-6)
    found = []
    for run in (layer, lambda y: checkpoint(layer, y, use_reentrant=False)):
        y = x[0].clone().requires_grad_()
        result = run(y)
        assert isinstance(result, Tensor)
        result.square().sum().backward()
        found.append(y.grad)
    assert torch.equal(*found)


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_is_exported_with_any_length(kind: type[torch.nn.Module]):
    layer = kind(SIZES)  # pyright: ignore[reportCallIssue]
    x = torch.randn(2, 70, 8, generator=torch.Generator().manual_seed(0))
    lengths = ({1: torch.export.Dim("T", min=2, max=4096)},)
    if kind is Carve:
        with pytest.raises(Exception, match="T is a symbol here; accepted: a fixed number of tokens") as caught:
            torch.export.export(layer, (x,), dynamic_shapes=lengths)
        assert isinstance(caught.value, ValueError) or "ValueError" in str(caught.value)
        return
    exported = torch.export.export(layer, (x,), dynamic_shapes=lengths).module()
    for tokens in (2, 70, 131):
        y = torch.randn(2, tokens, 8)
        assert torch.allclose(exported(y), layer(y), atol=1e-6)
    y, z = (x.clone().requires_grad_() for _ in range(2))
    exported(y).square().sum().backward()
    layer(z).square().sum().backward()
    assert y.grad is not None and z.grad is not None
    assert torch.allclose(y.grad, z.grad, atol=1e-5)
