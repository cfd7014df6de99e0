"""Operators for inference that read the inputs as the caller has them: normalisation and gate happen on the way in.

Registered with torch.library like those of `library`, whose arguments they share; A_log, dt_bias (both None unless g is
raw) and whether to normalise q and k come behind.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch._library.custom_ops import CustomOpDef

from .inference_call import InferenceCall
from .library import empty_states, parse_config, require_device
from .stages.fused import infer_fused
from .stages.packed import infer_packed


def _operator(name: str, run: Callable[..., tuple[Tensor, Tensor]]) -> CustomOpDef:
    """Register `run`, of an `InferenceCall` and `final`, as an operator that gives (o, ht) and has no backward."""

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
        A_log: Tensor | None,
        dt_bias: Tensor | None,
        normalise: bool,
    ) -> tuple[Tensor, Tensor]:
        require_device(q)
        call = InferenceCall(
            q=q,
            k=k,
            v=v,
            g=g,
            b=b,
            w=w,
            A_log=A_log,
            dt_bias=dt_bias,
            h0=h0,
            cu_seqlens=cu_seqlens,
            sequences=sequences,
            scale=scale,
            normalise=normalise,
            config=parse_config(config),
        )
        return run(call, final=final)

    def fake(q, k, v, g, b, w, h0, cu_seqlens, chunks, first_chunk, sequences, scale, final, config, *_):
        return torch.empty_like(v), empty_states(v, k, sequences if final else 0)

    registered = torch.library.custom_op(f"deltaproof::{name}", operator, mutates_args=())
    registered.register_fake(fake)
    return registered


chunk_fused = _operator("chunk_fused", infer_fused)
chunk_packed = _operator("chunk_packed", infer_packed)
