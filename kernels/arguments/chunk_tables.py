"""Where the chunks of a packed batch lie, computed once and given to every call on that batch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from ..configs.launch_config import CHUNK_SIZES
from .axes import dense, sort_of
from .layout import Layout, make_layout


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkIndices:
    """The tables of one packed batch, made by `chunk_indices`.

    cu_seqlens: [N + 1] int64, a copy. tokens: of all sequences together. layouts: by chunk size.
    """

    cu_seqlens: Tensor
    tokens: int
    layouts: dict[int, Layout]

    def of(self, chunk_size: int) -> Layout:
        """Raises ValueError for a chunk size that is not among those that the tables were made for."""
        if chunk_size not in self.layouts:
            raise ValueError(
                f"chunk_indices is for chunks of {_words(self.layouts)} tokens; accepted: for {chunk_size}, the chunk size "
                "of this call's configuration"
            )
        return self.layouts[chunk_size]


def chunk_indices(cu_seqlens: Tensor, tokens: int, chunk_sizes: Iterable[int] = CHUNK_SIZES) -> ChunkIndices:
    """The tables that `gated_delta_rule` would compute from `cu_seqlens` in every call, made without a synchronisation.

    Args:
        cu_seqlens: [N + 1] boundaries of packed sequences, int32 or int64. Contents are checked here on a CPU, else by the call.
        tokens: T, of all sequences together; the device alone knows it from cu_seqlens.
        chunk_sizes: by default all that a configuration can have, so that any will be served.

    The tables are as large for every batch of N sequences and T tokens, and a captured CUDA graph reads those that it was
    captured with: copy the tables of the next batch into them before it is replayed, or give the call none.

    Raises TypeError and ValueError: one line that names the argument, the value found and the values accepted.
    """
    if not dense(cu_seqlens) or cu_seqlens.dtype not in (torch.int32, torch.int64):
        raise TypeError(f"cu_seqlens is {sort_of(cu_seqlens)}; accepted: a dense int32 or int64 tensor")
    if cu_seqlens.dim() != 1 or cu_seqlens.shape[0] < 2:
        raise ValueError(f"cu_seqlens has shape {list(cu_seqlens.shape)}; accepted: [N + 1], for N >= 1 sequences")
    if isinstance(tokens, bool) or not isinstance(tokens, int) or tokens < 0:
        raise ValueError(f"tokens is {tokens!a:.60}; accepted: T, the number of tokens of all sequences together")
    given = list(chunk_sizes) if isinstance(chunk_sizes, Iterable) else [chunk_sizes]
    sizes = tuple(dict.fromkeys(given)) if all(isinstance(size, int) for size in given) else ()
    if not sizes or not set(sizes) <= set(CHUNK_SIZES):
        raise ValueError(f"chunk_sizes is {chunk_sizes!a:.60}; accepted: one or more of {_words(CHUNK_SIZES)}")
    if cu_seqlens.is_cpu and not torch.compiler.is_compiling():
        bounds = cu_seqlens.tolist()
        if bounds[0] != 0 or bounds[-1] != tokens or any(start > end for start, end in pairwise(bounds)):
            raise ValueError(f"cu_seqlens is {str(bounds)[:80]}; accepted: from 0 to tokens = {tokens}, never falling")
    # A copy: later writes to cu_seqlens must not change the boundaries that the tables are compared with.
    own = cu_seqlens.to(torch.int64, copy=True)
    return ChunkIndices(cu_seqlens=own, tokens=tokens, layouts={size: make_layout(own, tokens, size) for size in sizes})


def check_chunk_indices(
    indices: ChunkIndices, cu_seqlens: Tensor | None, tokens: int, device: torch.device, *, readable: bool
) -> None:
    """Whether these are the tables of a call on `tokens` packed tokens with these boundaries; contents only if `readable`.

    Raises TypeError and ValueError.
    """
    if not isinstance(indices, ChunkIndices):
        raise TypeError(
            f"chunk_indices is of type {type(indices).__name__}; accepted: what deltaproof.kernels.chunk_indices gives, or None"
        )
    if cu_seqlens is None:
        raise ValueError("chunk_indices is given without cu_seqlens; accepted: the boundaries that it was made of")
    if indices.cu_seqlens.device != device:
        raise ValueError(f"chunk_indices is on {indices.cu_seqlens.device}; accepted: {device}, where q is")
    made = indices.cu_seqlens.shape[0] - 1, indices.tokens
    if made != (cu_seqlens.shape[0] - 1, tokens):
        raise ValueError(
            f"chunk_indices is for {made[0]} sequences of {made[1]} tokens together; accepted: for the "
            f"{cu_seqlens.shape[0] - 1} and {tokens} of this call"
        )
    if readable and not torch.equal(indices.cu_seqlens, cu_seqlens.to(torch.int64)):
        raise ValueError(
            "chunk_indices was built from different cu_seqlens; rebuild it with chunk_indices(cu_seqlens, T)"
        )


def _words(sizes: Iterable[int]) -> str:
    return ", ".join(map(str, sizes))
