"""The launches of the inference variants, without running any of them: what there is to compile."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from ...specs.dtypes import TORCH_DTYPES
from ...specs.problem import DType
from ...specs.rule import Rule
from ..arguments.inference_call import InferenceCall
from ..configs.launch_config import LaunchConfig, Tile
from ..stages.inference.fused import infer_fused
from ..stages.inference.packed import infer_packed
from ..stages.recurrent.pool import walk_pool
from .compile import Launch, record
from .record import RECORDED, Sizes

Run = Callable[..., object]
VARIANTS: dict[str, Run] = {"fused": infer_fused, "packed": infer_packed}


def _empty(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


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
    call = _call(rule, dtype, K, V, config, normalise=normalise, raw=raw, states=states, packed=packed, sizes=sizes)
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
    call = _call(rule, dtype, K, V, LaunchConfig(), normalise=True, raw=raw, states=True, packed=False, sizes=sizes)
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


def _call(
    rule: Rule,
    dtype: DType,
    K: int,
    V: int,
    config: LaunchConfig,
    *,
    normalise: bool,
    raw: bool,
    states: bool,
    packed: bool,
    sizes: Sizes,
) -> InferenceCall:
    kind = TORCH_DTYPES[dtype]
    tokens, heads, sequences = sizes.tokens, sizes.heads, sizes.sequences
    empty = partial(_empty, dtype=kind)

    def gate(tied: str, channels: int, kind: torch.dtype) -> torch.Tensor | None:
        if tied in ("none", "tied"):
            return None
        return _empty(tokens, heads, *([channels] if tied == "channel" else []), dtype=kind)

    g = gate(rule.decay, K, torch.float32)
    raw = raw and g is not None
    return InferenceCall(
        q=empty(tokens, heads, K),
        k=empty(tokens, heads, K),
        v=empty(tokens, heads, V),
        g=g,
        b=gate(rule.erase, K, kind),
        w=gate(rule.write, V, kind),
        A_log=_empty(heads, dtype=torch.float32) if raw else None,
        dt_bias=_empty(g[0].numel(), dtype=torch.float32) if raw and g is not None else None,
        h0=_empty(sequences, heads, K, V, dtype=torch.float32) if states else None,
        cu_seqlens=_empty(sequences + 1, dtype=torch.int64) if packed else None,
        sequences=sequences,
        scale=K**-0.5,
        normalise=normalise,
        config=config,
    )
