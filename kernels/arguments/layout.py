"""Where the chunks of a packed batch lie."""

from __future__ import annotations

from dataclasses import dataclass

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


def even_sequences(batch: int, length: int, device: torch.device) -> torch.Tensor:
    """cu_seqlens of `batch` sequences of `length` tokens each.

    Made anew by every call: a tensor kept from one would be read by others before it is written, where it was made while a
    CUDA graph was captured, or on another stream.
    """
    return _multiples(length, batch + 1, device)


def even_layout(cu_seqlens: torch.Tensor, length: int, chunk_size: int) -> Layout:
    """The layout of sequences of `length` tokens each, whose boundaries these are: `make_layout` in a third of its launches."""
    sequences, device = cu_seqlens.shape[0] - 1, cu_seqlens.device
    per_sequence = -(-length // chunk_size)
    offset = _multiples(chunk_size, per_sequence, device)
    start = cu_seqlens[:-1, None] + offset
    rows = (length - offset).clamp(max=chunk_size).expand(sequences, per_sequence)
    chunks = torch.stack([start, rows], 2).view(sequences * per_sequence, 2)
    return Layout(cu_seqlens=cu_seqlens, chunks=chunks, first_chunk=_multiples(per_sequence, sequences + 1, device))


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


def _multiples(step: int, count: int, device: torch.device) -> torch.Tensor:
    """0, step, 2 step, ...: [count] int64, in one launch."""
    if step == 0:
        return torch.zeros(count, dtype=torch.int64, device=device)
    return torch.arange(0, count * step, step, dtype=torch.int64, device=device)
