"""The launches of each op, without running any of them, for compilation and tuning."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from ...specs.dtypes import TORCH_DTYPES
from ...specs.problem import DType
from ...specs.rule import Rule
from ..arguments.call import Call
from ..configs.launch_config import LaunchConfig, Tile
from ..ops import staged
from ..stages.inference.fused import infer_fused
from ..stages.inference.grouped import infer_grouped
from ..stages.prologue.activate import activate, activate_grad
from ..stages.prologue.normalise import l2norm, l2norm_grad
from ..stages.recurrent.pool import walk_pool
from ..stages.recurrent.tokens import walk_tokens
from .compile import Launch, record

Run = Callable[..., object]
VARIANTS: dict[str, Run] = {"fused": infer_fused, "packed": infer_grouped}
"""Variants that read the inputs as the caller has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large a recorded call is: packed tokens, heads of every kind, packed sequences."""

    tokens: int
    heads: int
    sequences: int


RECORDED = Sizes(tokens=8192, heads=4, sequences=2)
"""Kernels are compiled for any number of tokens and sequences."""


def _empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def _call(
    rule: Rule,
    dtype: DType,
    K: int,
    V: int,
    config: LaunchConfig,
    sizes: Sizes,
    *,
    normalise: bool = False,
    raw: bool = False,
    states: bool = True,
    packed: bool = True,
) -> Call:
    """raw: the gate is activated on the way in. states: initial ones. packed: sequences of any length."""
    kind = TORCH_DTYPES[dtype]
    tokens, heads, sequences = sizes.tokens, sizes.heads, sizes.sequences

    def gate(tied: str, channels: int, kind: torch.dtype) -> torch.Tensor | None:
        if tied in ("none", "tied"):
            return None
        return _empty(tokens, heads, *([channels] if tied == "channel" else []), dtype=kind)

    g = gate(rule.decay, K, torch.float32)
    raw = raw and g is not None
    return Call(
        q=_empty(tokens, heads, K, dtype=kind),
        k=_empty(tokens, heads, K, dtype=kind),
        v=_empty(tokens, heads, V, dtype=kind),
        g=g,
        b=gate(rule.erase, K, kind),
        w=gate(rule.write, V, kind),
        h0=_empty(sequences, heads, K, V, dtype=torch.float32) if states else None,
        cu_seqlens=_empty(sequences + 1, dtype=torch.int64) if packed else None,
        sequences=sequences,
        scale=K**-0.5,
        config=config,
        A_log=_empty(heads, dtype=torch.float32) if raw else None,
        dt_bias=_empty(g[0].numel(), dtype=torch.float32) if raw and g is not None else None,
        normalise=normalise,
    )


def op_launches(
    op: str,
    rule: Rule,
    dtype: DType,
    K: int,
    V: int,
    config: LaunchConfig,
    sizes: Sizes = RECORDED,
    *,
    bare: bool = False,
) -> list[Launch]:
    """Launches of one call of `op` ("chunk_train": forward and backward, "chunk_fwd" or "recurrent").

    On packed sequences with initial and final states; bare: with neither, which makes other programs of most kernels.

    Raises ValueError for another op, RuntimeError under TRITON_INTERPRET.
    """
    # The walk over tokens is given boundaries by every caller.
    call = _call(rule, dtype, K, V, config, sizes, states=not bare, packed=not bare or op == "recurrent")

    def train() -> None:
        o, ht, kept = staged.forward(call, final=not bare, disable_recompute=False)
        staged.backward(call, kept, o, ht)

    ops = {
        "chunk_train": train,
        "chunk_fwd": lambda: staged.infer(call, final=not bare),
        "recurrent": lambda: walk_tokens(call, final=not bare),
    }
    if op not in ops:
        raise ValueError(f"op={op!r}; accepted: {', '.join(ops)}")
    return record(ops[op])


def inference_launches(
    variant: str,
    rule: Rule,
    dtype: DType,
    K: int,
    V: int,
    config: LaunchConfig,
    *,
    normalise: bool = False,
    raw: bool = False,
    states: bool = True,
    packed: bool = True,
    sizes: Sizes = RECORDED,
) -> list[Launch]:
    """Launches of one call of a variant. raw: the gate is activated on the way in. states: initial and final ones.
    packed: sequences of any length.

    Raises ValueError for another variant, RuntimeError under TRITON_INTERPRET.
    """
    if variant not in VARIANTS:
        raise ValueError(f"variant={variant!r}; accepted: {', '.join(VARIANTS)}")
    call = _call(rule, dtype, K, V, config, sizes, normalise=normalise, raw=raw, states=states, packed=packed)
    return record(lambda: VARIANTS[variant](call, final=states))


def decode_launches(
    rule: Rule,
    dtype: DType,
    K: int,
    V: int,
    tile: Tile,
    *,
    v_first: bool = False,
    raw: bool = False,
    sizes: Sizes = RECORDED,
) -> list[Launch]:
    """The launch of one step of `decode`, with slots. Raises RuntimeError under TRITON_INTERPRET."""
    call = _call(rule, dtype, K, V, LaunchConfig(), sizes, normalise=True, raw=raw, packed=False)
    slots = _empty(sizes.sequences, dtype=torch.int64)
    options = {"sequences": call.sequences, "scale": call.scale, "normalise": True, "v_first": v_first}
    states = call.h0
    assert states is not None
    return record(
        lambda: walk_pool(
            **call.tensors,
            states=states,
            slots=slots,
            cu_seqlens=None,
            block=tile.block,
            num_warps=tile.num_warps,
            **options,
        )
    )


def first_stage_launches(rule: Rule, dtype: DType, K: int, sizes: Sizes = RECORDED) -> list[Launch]:
    """Launches of the optional first stage, forward and backward: normalisation, and the decay's activation if there is one."""
    call = _call(rule, dtype, K, K, LaunchConfig(), sizes)

    def run() -> None:
        l2norm(call.q)
        l2norm_grad(call.q, call.q)
        if call.g is not None:
            A_log = _empty(sizes.heads, dtype=torch.float32)
            dt_bias = _empty(call.g[0].numel(), dtype=torch.float32)
            activate(call.g, A_log, dt_bias)
            activate_grad(call.g, A_log, dt_bias, call.g)

    return record(run)
