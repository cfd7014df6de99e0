"""The raw operators, registered with torch.library: packed tensors in, tensors out, never an alias of an input.

`deltaproof::chunk_train` saves the scores for its backward; `chunk_fwd` and `recurrent` are for inference; `l2norm` and
`decay_gate` are the optional first stage. An absent result is an empty tensor, since operators return tensors only.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch
from torch._library.custom_ops import CustomOpDef
from triton import knobs
from triton.runtime.driver import driver

from ..arguments.call import Call
from ..arguments.layout import Layout, even_sequences
from ..configs.launch_config import LaunchConfig
from ..stages.prologue.activate import activate, activate_grad
from ..stages.prologue.normalise import l2norm as normalise
from ..stages.prologue.normalise import l2norm_grad as normalise_grad
from ..stages.recurrent.tokens import walk_tokens
from . import staged

Tensor = torch.Tensor
parse_config = lru_cache(maxsize=1024)(LaunchConfig.parse)
"""Configurations travel as text; every call of an operator reads one."""

_SAVED = ("q", "k", "v", "g", "b", "w", "h0", "cu_seqlens", "chunks", "first_chunk")
"""Tensor arguments of the training operator, in order."""


def require_device(q: Tensor) -> None:
    """Triton runs on GPUs, and on CPU tensors in its interpreter or on a simulated device. Raises ValueError otherwise."""
    simulated = getattr(driver._active, "on_cpu", False)
    if q.device.type == "cpu" and not knobs.runtime.interpret and not simulated:
        raise ValueError(
            "this variant runs Triton kernels, which need a GPU, or TRITON_INTERPRET=1 set before deltaproof is "
            "imported; for CPU tensors use variant='torch'"
        )


def _call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    b: Tensor | None,
    w: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    chunks: Tensor | None,
    first_chunk: Tensor | None,
    sequences: int,
    scale: float,
    config: str,
) -> Call:
    """The arguments of an operator as a `Call`. Without cu_seqlens, the sequences are equally long.

    chunks, first_chunk: of a `Layout` of these sequences in chunks of the configuration's size, or both None.
    """
    layout = length = None
    if cu_seqlens is None:
        length = q.shape[0] // max(sequences, 1)
        cu_seqlens = even_sequences(sequences, length, q.device)
    elif chunks is not None and first_chunk is not None:
        layout = Layout(cu_seqlens=cu_seqlens, chunks=chunks, first_chunk=first_chunk)
    return Call(
        q=q,
        k=k,
        v=v,
        g=g,
        b=b,
        w=w,
        h0=h0,
        cu_seqlens=cu_seqlens,
        scale=scale,
        config=parse_config(config),
        layout=layout,
        length=length,
    )


def empty_states(v: Tensor, k: Tensor, sequences: int) -> Tensor:
    """[sequences, HV, K, V] fp32, on the device of packed v [tokens, HV, V] and k [tokens, H, K]."""
    return v.new_empty(sequences, v.shape[1], k.shape[2], v.shape[2], dtype=torch.float32)


@torch.library.custom_op("deltaproof::chunk_train", mutates_args=())
def chunk_train(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    b: Tensor | None,
    w: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    chunks: Tensor | None,
    first_chunk: Tensor | None,
    sequences: int,
    scale: float,
    final: bool,
    config: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(o, ht, aqk, a); the last two are what the backward needs (`staged.forward`)."""
    require_device(q)
    call = _call(q, k, v, g, b, w, h0, cu_seqlens, chunks, first_chunk, sequences, scale, config)
    return staged.forward(call, final=final)


@chunk_train.register_fake
def _(q, k, v, g, b, w, h0, cu_seqlens, chunks, first_chunk, sequences, scale, final, config):
    aqk = q.new_empty(q.shape[0], v.shape[1], parse_config(config).chunk_size)
    a = torch.empty_like(aqk) if b is not None else q.new_empty(0)
    return torch.empty_like(v), empty_states(v, k, sequences if final else 0), aqk, a


@torch.library.custom_op("deltaproof::chunk_train_backward", mutates_args=())
def chunk_train_backward(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    g: Tensor | None,
    b: Tensor | None,
    w: Tensor | None,
    h0: Tensor | None,
    cu_seqlens: Tensor | None,
    chunks: Tensor | None,
    first_chunk: Tensor | None,
    sequences: int,
    aqk: Tensor,
    a: Tensor,
    do: Tensor,
    dht: Tensor | None,
    scale: float,
    config: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(dq, dk, dv, dg, db, dw, dh0), empty for what the call does not have."""
    call = _call(q, k, v, g, b, w, h0, cu_seqlens, chunks, first_chunk, sequences, scale, config)
    grads = staged.backward(call, aqk, a, do, dht)
    dg, db, dw, dh0 = (q.new_empty(0) if grad is None else grad for grad in (grads.g, grads.b, grads.w, grads.h0))
    return grads.q, grads.k, grads.v, dg, db, dw, dh0


@chunk_train_backward.register_fake
def _(q, k, v, g, b, w, h0, cu_seqlens, chunks, first_chunk, sequences, aqk, a, do, dht, scale, config):
    return tuple(q.new_empty(0) if tensor is None else torch.empty_like(tensor) for tensor in (q, k, v, g, b, w, h0))


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*inputs[: len(_SAVED)], *output[2:])
    ctx.sequences, ctx.scale, ctx.final, ctx.config = inputs[len(_SAVED) :]


def _backward(ctx: Any, do: Tensor | None, dht: Tensor | None, *_: None) -> tuple[Any, ...]:
    *inputs, cu_seqlens, chunks, first_chunk, aqk, a = ctx.saved_tensors
    do = torch.zeros_like(inputs[2]) if do is None else do.contiguous()
    dht = dht.contiguous() if dht is not None and ctx.final else None
    tables = (cu_seqlens, chunks, first_chunk)
    grads = chunk_train_backward(*inputs, *tables, ctx.sequences, aqk, a, do, dht, ctx.scale, ctx.config)
    needed = (None if tensor is None else grad for tensor, grad in zip(inputs, grads, strict=True))
    return *needed, None, None, None, None, None, None, None


chunk_train.register_autograd(_backward, setup_context=_save)


def _inference_operator(name: str, run: Callable[..., tuple[Tensor, Tensor]]) -> CustomOpDef:
    """Register `run`, of a `Call` and `final`, as an operator that gives (o, ht) and has no backward."""

    def operator(
        q: Tensor,
        k: Tensor,
        v: Tensor,
        g: Tensor | None,
        b: Tensor | None,
        w: Tensor | None,
        h0: Tensor | None,
        cu_seqlens: Tensor | None,
        chunks: Tensor | None,
        first_chunk: Tensor | None,
        sequences: int,
        scale: float,
        final: bool,
        config: str,
    ) -> tuple[Tensor, Tensor]:
        require_device(q)
        return run(_call(q, k, v, g, b, w, h0, cu_seqlens, chunks, first_chunk, sequences, scale, config), final=final)

    def fake(q, k, v, g, b, w, h0, cu_seqlens, chunks, first_chunk, sequences, scale, final, config):
        return torch.empty_like(v), empty_states(v, k, sequences if final else 0)

    registered = torch.library.custom_op(f"deltaproof::{name}", operator, mutates_args=())
    registered.register_fake(fake)
    return registered


chunk_fwd = _inference_operator("chunk_fwd", staged.infer)
recurrent = _inference_operator("recurrent", walk_tokens)


@torch.library.custom_op("deltaproof::l2norm", mutates_args=())
def l2norm(x: Tensor) -> Tensor:
    """x / sqrt(sum x^2 + 1e-6) over the last dimension."""
    require_device(x)
    return normalise(x)


@torch.library.custom_op("deltaproof::l2norm_backward", mutates_args=())
def l2norm_backward(x: Tensor, dy: Tensor) -> Tensor:
    return normalise_grad(x, dy)


@l2norm.register_fake
def _(x):
    return torch.empty_like(x)


@l2norm_backward.register_fake
def _(x, dy):
    return torch.empty_like(x)


l2norm.register_autograd(
    lambda ctx, dy: l2norm_backward(*ctx.saved_tensors, dy.contiguous()),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)


@torch.library.custom_op("deltaproof::decay_gate", mutates_args=())
def decay_gate(f: Tensor, A_log: Tensor, dt_bias: Tensor) -> Tensor:
    """-exp(A_log) softplus(f + dt_bias), fp32."""
    require_device(f)
    return activate(f, A_log, dt_bias)


@torch.library.custom_op("deltaproof::decay_gate_backward", mutates_args=())
def decay_gate_backward(f: Tensor, A_log: Tensor, dt_bias: Tensor, dg: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return activate_grad(f, A_log, dt_bias, dg)


@decay_gate.register_fake
def _(f, A_log, dt_bias):
    return torch.empty_like(f, dtype=torch.float32)


@decay_gate_backward.register_fake
def _(f, A_log, dt_bias, dg):
    return torch.empty_like(f), torch.empty_like(A_log), torch.empty_like(dt_bias)


decay_gate.register_autograd(
    lambda ctx, dg: decay_gate_backward(*ctx.saved_tensors, dg.contiguous()),
    setup_context=lambda ctx, inputs, output: ctx.save_for_backward(*inputs),
)
