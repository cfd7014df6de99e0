"""A padded batch to packed sequences, and back."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..arguments.axes import dense, sort_of


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Packing:
    """Where the tokens of a padded batch [B, T] are.

    rows: [tokens] places in the flattened batch. cu_seqlens: [B + 1] int64. shape: (B, T).
    """

    rows: Tensor
    cu_seqlens: Tensor
    shape: tuple[int, int]


def make_packing(mask: Tensor, batch: int, length: int) -> Packing:
    """From a mask [B, at least T], true or 1 for tokens and false or 0 for padding, of which the last T columns count.

    Padding may be anywhere. Raises TypeError and ValueError for any other mask.
    """
    if not dense(mask) or mask.dtype.is_complex:
        raise TypeError(f"mask is {sort_of(mask)}; accepted: a dense tensor of booleans or numbers")
    if mask.is_meta:
        raise ValueError("mask is on meta; accepted: a mask with contents, which say where the tokens are")
    if mask.dim() != 2 or mask.shape[0] != batch or mask.shape[1] < length:
        raise ValueError(f"mask has shape {list(mask.shape)}; accepted: [{batch}, {length}], or more columns before it")
    kept = mask[:, mask.shape[1] - length :].bool()
    cu_seqlens = F.pad(kept.sum(1).cumsum(0), (1, 0))
    return Packing(rows=kept.flatten().nonzero().squeeze(1), cu_seqlens=cu_seqlens, shape=(batch, length))


def pack(x: Tensor, packing: Packing) -> Tensor:
    """[B, T, D] -> [1, tokens, D]."""
    return x.flatten(0, 1).index_select(0, packing.rows)[None]


def unpack(x: Tensor, packing: Packing) -> Tensor:
    """[1, tokens, D] -> [B, T, D], zeros at the padding."""
    batch, length = packing.shape
    flat = torch.zeros(batch * length, x.shape[2], dtype=x.dtype, device=x.device)
    return flat.index_copy(0, packing.rows, x[0]).unflatten(0, (batch, length))
