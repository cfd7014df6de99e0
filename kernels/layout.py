"""Where the chunks of a packed batch lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Sequences and chunks of a packed batch, as tensors on the device of the data.

    cu_seqlens: [N + 1] int64, first token of each sequence and the end of the last.
    chunks: [M, 2] int64, first token and number of tokens of each chunk; chunks past the last have none.
    first_chunk: [N + 1] int64, first chunk of each sequence.
    """

    cu_seqlens: torch.Tensor
    chunks: torch.Tensor
    first_chunk: torch.Tensor

    @property
    def sequences(self) -> int:
        return self.cu_seqlens.shape[0] - 1


@lru_cache(maxsize=256)
def even_sequences(batch: int, length: int, device: torch.device) -> torch.Tensor:
    """cu_seqlens of `batch` sequences of `length` tokens each."""
    return torch.arange(batch + 1, dtype=torch.int64, device=device) * length


def make_layout(cu_seqlens: torch.Tensor, tokens: int, chunk_size: int) -> Layout:
    """Split each sequence into chunks of at most `chunk_size` tokens, without a device synchronisation.

    The number of chunks is only known to the device, so the table has room for the most there can be.
    """
    cu_seqlens = cu_seqlens.to(torch.int64)
    sequences = cu_seqlens.shape[0] - 1
    lengths = cu_seqlens[1:] - cu_seqlens[:-1]
    first_chunk = torch.zeros_like(cu_seqlens)
    torch.cumsum((lengths + chunk_size - 1) // chunk_size, 0, out=first_chunk[1:])
    chunk = torch.arange(tokens // chunk_size + sequences, dtype=torch.int64, device=cu_seqlens.device)
    sequence = torch.searchsorted(first_chunk[1:], chunk, right=True).clamp(max=sequences - 1)
    start = cu_seqlens[sequence] + (chunk - first_chunk[sequence]) * chunk_size
    rows = (cu_seqlens[sequence + 1] - start).clamp(0, chunk_size)
    return Layout(cu_seqlens=cu_seqlens, chunks=torch.stack([start, rows], 1), first_chunk=first_chunk)
