"""The plain path as one opaque operator, for torch.export: its walk over chunks is as long as T, which is a symbol there."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from ..arguments.precision import exact_dtype
from .chunkwise import gated_delta_rule_torch

_TENSORS = 7
"""The arguments that come first, which may want gradients."""


@torch.library.custom_op("deltaproof::chunkwise_torch", mutates_args=())
def chunkwise_torch(
    q: Tensor, k: Tensor, v: Tensor, g: Tensor | None, b: Tensor | None, w: Tensor | None, initial_state: Tensor | None,
    cu_seqlens: Tensor | None, scale: float, chunk_size: int,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`gated_delta_rule_torch`, always with the final states."""
    return _run(q, k, v, g, b, w, initial_state, cu_seqlens, scale, chunk_size)


def _run(*arguments: Any) -> tuple[Tensor, Tensor]:
    *data, initial_state, cu_seqlens, scale, chunk_size = arguments
    o, state = gated_delta_rule_torch(
        *data, scale=scale, initial_state=initial_state, output_final_state=True, cu_seqlens=cu_seqlens,
        chunk_size=chunk_size,
    )  # fmt: skip
    assert state is not None
    return o.contiguous(), state.contiguous()


@chunkwise_torch.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, g: Any, b: Any, w: Any, initial_state: Any, cu_seqlens: Tensor | None, *_: Any):
    exact = exact_dtype(q.dtype)
    sequences = q.shape[0] if cu_seqlens is None else cu_seqlens.shape[0] - 1
    return v.new_empty(v.shape), v.new_empty(sequences, v.shape[2], q.shape[3], v.shape[3], dtype=exact)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    ctx.save_for_backward(*inputs[: _TENSORS + 1])
    ctx.rest = inputs[_TENSORS + 1 :]


def _differentiate(ctx: Any, do: Tensor, dstate: Tensor) -> tuple[Any, ...]:
    """By autograd through the plain path, run again."""
    *data, cu_seqlens = ctx.saved_tensors
    with torch.enable_grad():
        data = [x if x is None else x.detach().requires_grad_() for x in data]
        outputs = _run(*data, cu_seqlens, *ctx.rest)
    given = [x for x in data if x is not None]
    grads = iter(torch.autograd.grad(outputs, given, (do, dstate), allow_unused=True))
    return *(None if x is None else next(grads) for x in data), None, None, None


chunkwise_torch.register_autograd(_differentiate, setup_context=_keep)
