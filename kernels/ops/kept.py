"""What the forward pass of training keeps for the backward pass, besides its inputs."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..arguments.layout import count_chunks, table_size
from ..stages.chunkwise.operands import Operands


class Kept(NamedTuple):
    """Results of `chunk_train` that only its backward reads. What there is not is empty, since operators return tensors only.

    table: of the `Layout`, int64; empty where the caller brought one.
    aqk, a: the scores and the inverse [tokens, HV, C], in q's dtype; a is empty for a rule that erases nothing.

    With `disable_recompute`, in place of doing the same work again:
    queries, erasers, keys, total: `Operands`. h: the state before each chunk [M, HV, K, V]; r: the writes [tokens, HV, V];
    both in v's dtype.
    """

    table: Tensor
    aqk: Tensor
    a: Tensor
    queries: Tensor
    erasers: Tensor
    keys: Tensor
    total: Tensor
    h: Tensor
    r: Tensor

    @classmethod
    def of(
        cls, table: Tensor | None, aqk: Tensor, a: Tensor, given: Operands | None, h: Tensor | None, r: Tensor | None
    ) -> Kept:
        """What there is of it, and empty tensors for the rest."""
        fields = (table, aqk, a, *(given or (None,) * len(Operands._fields)), h, r)
        return cls(*(
            aqk.new_empty(0, dtype=_DTYPES.get(name, aqk.dtype)) if x is None else x
            for name, x in zip(cls._fields, fields, strict=True)
        ))  # fmt: skip

    @property
    def walked(self) -> tuple[Operands, Tensor, Tensor] | None:
        """(operands, h, r), if they were kept."""
        if not self.h.numel():
            return None
        erasers, total = (x if x.numel() else None for x in (self.erasers, self.total))
        return Operands(queries=self.queries, erasers=erasers, keys=self.keys, total=total), self.h, self.r


_DTYPES = {"table": torch.int64, "total": torch.float32}
"""Of those that do not have the dtype of q and v."""


def fake_kept(
    *, q: Tensor, v: Tensor, g: Tensor | None, b: Tensor | None, cu_seqlens: Tensor | None, chunks: Tensor | None,
    sequences: int, chunk_size: int, disable_recompute: bool,
) -> Kept:  # fmt: skip
    """What is kept, in shape and dtype, by a call on packed tensors."""
    tokens, HV, K, V = q.shape[0], v.shape[1], q.shape[2], v.shape[2]
    packed = cu_seqlens is not None
    brought = chunks if packed else None
    M = count_chunks(tokens, sequences, chunk_size, packed=packed) if brought is None else brought.shape[0]
    shapes: dict[str, tuple[int, ...]] = {"aqk": (tokens, HV, chunk_size)}
    if brought is None:
        shapes["table"] = (table_size(sequences, M),)
    if b is not None:
        shapes["a"] = shapes["aqk"]
    if disable_recompute:
        shapes |= {"queries": (tokens, HV, K), "keys": (tokens, HV, K), "h": (M, HV, K, V), "r": (tokens, HV, V)}
        if b is not None:
            shapes["erasers"] = (tokens, HV, K)
        if g is not None:
            shapes["total"] = (M, HV, *g.shape[2:])
    return Kept(*(q.new_empty(shapes.get(name, (0,)), dtype=_DTYPES.get(name, q.dtype)) for name in Kept._fields))
