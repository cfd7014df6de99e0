"""A traced call looks its configuration up when it runs: while it is traced there is no device, and its sizes may be symbols.

It carries the safe default, from which a tracer reads the facts that shapes depend on, and behind it a mark.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from ...results.schema.token import chunk_size_of, variant_of
from ..arguments.checks import CallShape, Tie
from ..arguments.shapes import Shapes
from .dispatch import choose_config

MARK = ",served"
# By `arguments.shapes.NONE`, `SCALAR` and `CHANNEL`.
_TIES: tuple[Tie, ...] = ("none", "scalar", "channel")
_WRITES: tuple[Literal["tied", "scalar", "channel"], ...] = ("tied", "scalar", "channel")


def marked(default: str, *, states: bool, l2norm: bool, gate: bool) -> str:
    """The token of a configuration that is looked up when the call runs, with the facts about the call that the look-up needs."""
    return default + MARK + "+states" * states + "+l2norm" * l2norm + "+gate" * gate


def resolved(config: str, **arguments: Any) -> str:
    """The token itself, or for a marked one the token served: the default again where shapes that were traced would change."""
    default, mark, options = config.partition(MARK)
    if not mark:
        return config
    variant = variant_of(default)
    return choose_config(
        "chunk_fwd" if variant == "packed" else "chunk_train",
        _shape(**arguments),
        arguments["q"],
        variant="packed" if variant == "packed" else None,
        packed=arguments["cu_seqlens"] is not None,
        states="states" in options,
        l2norm="l2norm" in options,
        gate="gate" in options,
        # Training keeps the scores of its chunks from the forward pass to the backward.
        chunk_size=None if variant == "packed" else chunk_size_of(default),
    )


def _shape(
    *, q: Tensor, v: Tensor, g: Tensor | None, b: Tensor | None, w: Tensor | None, cu_seqlens: Tensor | None,
    sequences: int, **_: Any,
) -> CallShape:  # fmt: skip
    shapes = Shapes.of(q, v, g, b, w)
    batch = 1 if cu_seqlens is not None else max(sequences, 1)
    return CallShape(
        decay=_TIES[shapes.DECAY],
        erase=_TIES[shapes.ERASE],
        write=_WRITES[shapes.WRITE],
        B=batch,
        T=shapes.tokens // batch,
        H=shapes.H,
        HV=shapes.HV,
        K=shapes.K,
        V=shapes.V,
        N=sequences,
        decay_heads=shapes.G,
        erase_heads=shapes.B,
    )
