"""The raw operators, registered with torch.library: packed tensors in, tensors out, never an alias of an input.

`chunk_train` returns what its backward reads, too (`Kept`); `chunk_fwd`, `recurrent`, `chunk_fused` and `chunk_packed` are for
inference, the last two on inputs as the caller has them; `decode` updates states in place; `l2norm` and `decay_gate` are the
optional first stage. An absent result is an empty tensor, since operators return tensors only.

The arguments of a call are written once, in `_CALL`. From there they travel by name, to the fields of `Call`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...results.schema.token import chunk_size_of
from ..arguments.call import PER_TOKEN, Call
from ..configs.launch_config import LaunchConfig
from ..stages.inference.fused import infer_fused
from ..stages.inference.grouped import infer_grouped
from ..stages.prologue import activate, normalise
from ..stages.recurrent.pool import walk_pool
from ..stages.recurrent.tokens import walk_tokens
from . import staged
from .kept import Kept, fake_kept
from .operator import Operator
from .traced import resolved

_INPUTS = "Tensor q, Tensor k, Tensor v, Tensor? g, Tensor? b, Tensor? w"
_CALL = f"{_INPUTS}, Tensor? h0, Tensor? cu_seqlens, Tensor? chunks, Tensor? first_chunk, int sequences, float scale, str config"
_RAW = "Tensor? A_log, Tensor? dt_bias, bool normalise"
"""Of operators that normalise q and k and activate a raw g themselves."""

parse_config = lru_cache(maxsize=1024)(LaunchConfig.parse)
"""Configurations travel as text; every call of an operator reads one."""


def _call(config: str, **arguments: Any) -> Call:
    return Call(config=parse_config(resolved(config, **arguments)), **arguments)


def _empty_states(v: Tensor, k: Tensor, sequences: int) -> Tensor:
    """[sequences, HV, K, V] fp32, on the device of packed v [tokens, HV, V] and k [tokens, H, K]."""
    return v.new_empty(sequences, v.shape[1], k.shape[2], v.shape[2], dtype=torch.float32)


def _fake_inference(*, k: Tensor, v: Tensor, sequences: int, final: bool, **_: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(v), _empty_states(v, k, sequences if final else 0)


def _inference(name: str, run: Callable[..., tuple[Tensor, Tensor]], *more: str) -> Operator:
    """An operator that gives (o, ht) and has no backward; `run` takes a `Call` and `final`."""

    def body(*, final: bool, **arguments: Any) -> tuple[Tensor, Tensor]:
        return run(_call(**arguments), final=final)

    return Operator(name, f"({', '.join((_CALL, *more))}, bool final) -> (Tensor, Tensor)", body, _fake_inference)


def _walk_tokens(call: Call, *, final: bool) -> tuple[Tensor, Tensor]:
    return walk_tokens(call if call.cu_seqlens is not None else replace(call, cu_seqlens=call.boundaries), final=final)


chunk_fwd = _inference("chunk_fwd", staged.infer)
recurrent = _inference("recurrent", _walk_tokens)
chunk_fused = _inference("chunk_fused", infer_fused, _RAW)
chunk_packed = _inference("chunk_packed", infer_grouped, _RAW)


def _train(*, final: bool, disable_recompute: bool, **arguments: Any) -> tuple[Tensor, ...]:
    """(o, ht, *kept)."""
    o, ht, kept = staged.forward(_call(**arguments), final=final, disable_recompute=disable_recompute)
    return o, ht, *kept


_SHAPING = ("q", "v", "g", "b", "cu_seqlens", "chunks", "sequences")
"""The arguments that what is kept depends on, besides the chunk size."""


def _fake_train(*, final: bool, disable_recompute: bool, **arguments: Any) -> tuple[Tensor, ...]:
    kept = fake_kept(
        **{name: arguments[name] for name in _SHAPING},
        chunk_size=chunk_size_of(arguments["config"]),
        disable_recompute=disable_recompute,
    )
    return *_fake_inference(final=final, **arguments), *kept


_NEEDED = (*PER_TOKEN, "h0")
"""The tensors that have gradients in a training call, in the order of the results of its backward."""
_SAVED = (*_NEEDED, "cu_seqlens", "chunks", "first_chunk")


def _save(ctx: Any, inputs: dict[str, Any], output: tuple[Tensor, ...]) -> None:
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(*(inputs[name] for name in _SAVED), *output[2:])
    ctx.rest = {name: inputs[name] for name in ("sequences", "scale", "config")}
    ctx.final = inputs["final"]


def _backward(ctx: Any, do: Tensor | None, dht: Tensor | None, *_: None) -> dict[str, Tensor | None]:
    saved = dict(zip((*_SAVED, *Kept._fields), ctx.saved_tensors, strict=True))
    do = torch.zeros_like(saved["v"]) if do is None else do.contiguous()
    dht = dht.contiguous() if dht is not None and ctx.final else None
    found = chunk_train_backward(**saved, **ctx.rest, do=do, dht=dht)
    return {name: grad for name, grad in zip(_NEEDED, found, strict=True) if saved[name] is not None}


chunk_train = Operator(
    "chunk_train",
    f"({_CALL}, bool final, bool disable_recompute) -> ({', '.join(['Tensor'] * (2 + len(Kept._fields)))})",
    _train,
    _fake_train,
    setup=_save,
    backward=_backward,
)


def _train_backward(*, do: Tensor, dht: Tensor | None, **arguments: Any) -> tuple[Tensor, ...]:
    """(dq, dk, dv, dg, db, dw, dh0), empty for a tensor that the call does not have."""
    kept = Kept(*(arguments.pop(name) for name in Kept._fields))
    grads = staged.backward(_call(**arguments), kept, do, dht)
    return tuple(do.new_empty(0) if (x := getattr(grads, name)) is None else x for name in _NEEDED)


def _fake_train_backward(**arguments: Any) -> tuple[Tensor, ...]:
    q = arguments["q"]
    return tuple(q.new_empty(0) if (x := arguments[name]) is None else torch.empty_like(x) for name in _NEEDED)


chunk_train_backward = Operator(
    "chunk_train_backward",
    f"({_CALL}, {', '.join(f'Tensor {name}' for name in Kept._fields)}, Tensor do, Tensor? dht) "
    f"-> ({', '.join(['Tensor'] * len(_NEEDED))})",
    _train_backward,
    _fake_train_backward,
)


decode = Operator(
    "decode",
    f"({_INPUTS}, {_RAW}, Tensor(a!) states, Tensor? slots, Tensor? cu_seqlens, int sequences, float scale, bool v_first, "
    "int block, int num_warps) -> Tensor",
    walk_pool,
    lambda v, **_: torch.empty_like(v),
)


def _save_all(ctx: Any, inputs: dict[str, Any], output: Tensor) -> None:
    ctx.save_for_backward(*inputs.values())


def _l2norm_backward(ctx: Any, dy: Tensor) -> dict[str, Tensor | None]:
    (x,) = ctx.saved_tensors
    return {"x": l2norm_backward(x=x, dy=dy.contiguous())}


def _decay_gate_backward(ctx: Any, dg: Tensor) -> dict[str, Tensor | None]:
    given = dict(zip(("f", "A_log", "dt_bias"), ctx.saved_tensors, strict=True))
    return dict(zip(given, decay_gate_backward(**given, dg=dg.contiguous()), strict=True))


l2norm = Operator(
    "l2norm",
    "(Tensor x) -> Tensor",
    normalise.l2norm,
    lambda x: torch.empty_like(x),
    setup=_save_all,
    backward=_l2norm_backward,
)
l2norm_backward = Operator(
    "l2norm_backward", "(Tensor x, Tensor dy) -> Tensor", normalise.l2norm_grad, lambda x, dy: torch.empty_like(x)
)
decay_gate = Operator(
    "decay_gate",
    "(Tensor f, Tensor A_log, Tensor dt_bias) -> Tensor",
    activate.activate,
    lambda f, **_: torch.empty_like(f, dtype=torch.float32),
    setup=_save_all,
    backward=_decay_gate_backward,
)
decay_gate_backward = Operator(
    "decay_gate_backward",
    "(Tensor f, Tensor A_log, Tensor dt_bias, Tensor dg) -> (Tensor, Tensor, Tensor)",
    activate.activate_grad,
    lambda f, A_log, dt_bias, **_: (torch.empty_like(f), torch.empty_like(A_log), torch.empty_like(dt_bias)),
)
