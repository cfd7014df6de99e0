"""The launches of each op, without running any of them: what there is to compile and to tune."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...specs.dtypes import TORCH_DTYPES
from ...specs.problem import DType
from ...specs.rule import Rule
from ..arguments.call import Call
from ..configs.launch_config import LaunchConfig
from ..ops import staged
from ..stages.prologue.activate import activate, activate_grad
from ..stages.prologue.normalise import l2norm, l2norm_grad
from ..stages.recurrent.tokens import walk_tokens
from .compile import Launch, record


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


def _call(rule: Rule, dtype: torch.dtype, K: int, V: int, config: LaunchConfig, sizes: Sizes) -> Call:
    tokens, heads, sequences = sizes.tokens, sizes.heads, sizes.sequences

    def gate(tied: str, channels: int, kind: torch.dtype) -> torch.Tensor | None:
        if tied in ("none", "tied"):
            return None
        return _empty(tokens, heads, *([channels] if tied == "channel" else []), dtype=kind)

    return Call(
        q=_empty(tokens, heads, K, dtype=dtype),
        k=_empty(tokens, heads, K, dtype=dtype),
        v=_empty(tokens, heads, V, dtype=dtype),
        g=gate(rule.decay, K, torch.float32),
        b=gate(rule.erase, K, dtype),
        w=gate(rule.write, V, dtype),
        h0=_empty(sequences, heads, K, V, dtype=torch.float32),
        cu_seqlens=_empty(sequences + 1, dtype=torch.int64),
        scale=K**-0.5,
        config=config,
    )


def op_launches(
    op: str, rule: Rule, dtype: DType, K: int, V: int, config: LaunchConfig, sizes: Sizes = RECORDED
) -> list[Launch]:
    """Launches of one call of `op` ("chunk_train": forward and backward, "chunk_fwd" or "recurrent"), with states.

    Raises ValueError for another op, RuntimeError under TRITON_INTERPRET.
    """
    call = _call(rule, TORCH_DTYPES[dtype], K, V, config, sizes)

    def train() -> None:
        o, ht, aqk, a = staged.forward(call, final=True)
        staged.backward(call, aqk, a, o, ht)

    ops = {
        "chunk_train": train,
        "chunk_fwd": lambda: staged.infer(call, final=True),
        "recurrent": lambda: walk_tokens(call, final=True),
    }
    if op not in ops:
        raise ValueError(f"op={op!r}; accepted: {', '.join(ops)}")
    return record(ops[op])


def first_stage_launches(rule: Rule, dtype: DType, K: int, sizes: Sizes = RECORDED) -> list[Launch]:
    """Launches of the optional first stage, forward and backward: normalisation, and the decay's activation if there is one."""
    call = _call(rule, TORCH_DTYPES[dtype], K, K, LaunchConfig(), sizes)

    def run() -> None:
        l2norm(call.q)
        l2norm_grad(call.q, call.q)
        if call.g is not None:
            A_log = _empty(sizes.heads, dtype=torch.float32)
            dt_bias = _empty(call.g[0].numel(), dtype=torch.float32)
            activate(call.g, A_log, dt_bias)
            activate_grad(call.g, A_log, dt_bias, call.g)

    return record(run)
