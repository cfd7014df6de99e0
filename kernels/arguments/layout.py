"""Where the chunks of a batch lie."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch.utils._python_dispatch import _disable_current_modes

_LINE = 16
"""The parts of a table begin at multiples of this many entries (128 bytes), with a free one at least behind each: who reads past
the end of a part does not read another."""

_LARGEST = 2**17
"""Entries of a table that the host keeps: one MiB, for two million tokens in chunks of 32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Sequences and chunks of a batch, as tensors on the device of the data.

    cu_seqlens: [N + 1] int64, first token of each sequence and the end of the last.
    chunks: [M, 2] int64, first token and number of tokens of each chunk; chunks past the last have none.
    first_chunk: [N + 1] int64, first chunk of each sequence.
    table: the tensor of which all three are views; None where the caller of the op made them.
    """

    cu_seqlens: torch.Tensor
    chunks: torch.Tensor
    first_chunk: torch.Tensor
    table: torch.Tensor | None = None

    @property
    def sequences(self) -> int:
        return self.cu_seqlens.shape[0] - 1

    @classmethod
    def over(cls, table: torch.Tensor, sequences: int, chunks: int) -> Layout:
        """The views of a table [`table_size`] int64."""
        at, then = _places(sequences, chunks)
        return cls(
            cu_seqlens=table[at : at + sequences + 1],
            chunks=table[: 2 * chunks].view(chunks, 2),
            first_chunk=table[then : then + sequences + 1],
            table=table,
        )


def count_chunks(tokens: int, sequences: int, chunk_size: int, *, packed: bool) -> int:
    """M of a layout. Of packed sequences, whose lengths the device alone knows, the most that there can be."""
    if packed:
        return tokens // chunk_size + sequences
    return sequences * -(-(tokens // max(sequences, 1)) // chunk_size)


def table_size(sequences: int, chunks: int) -> int:
    """Entries of the table of a layout."""
    return _places(sequences, chunks)[1] + _lines(sequences + 1)


def _places(sequences: int, chunks: int) -> tuple[int, int]:
    """Where cu_seqlens and first_chunk begin in a table; chunks come first."""
    at = _lines(2 * chunks)
    return at, at + _lines(sequences + 1)


def _lines(entries: int) -> int:
    return (entries // _LINE + 1) * _LINE


def even_sequences(batch: int, length: int, device: torch.device) -> torch.Tensor:
    """cu_seqlens of `batch` sequences of `length` tokens each.

    Made anew by every call: a tensor kept from one would be read by others before it is written, where it was made while a
    CUDA graph was captured, or on another stream.
    """
    if length == 0:
        return torch.zeros(batch + 1, dtype=torch.int64, device=device)
    return torch.arange(0, (batch + 1) * length, length, dtype=torch.int64, device=device)


def even_layout(sequences: int, length: int, chunk_size: int, device: torch.device) -> Layout:
    """The layout of sequences of `length` tokens each: a copy of a table that the host keeps, for which it does not wait.

    The device keeps none, for the reason that `even_sequences` gives. A CUDA graph would read the host's memory in each
    replay, so while one is captured the device computes the table; so it does where the table is large.
    """
    gpu = device.type == "cuda"
    chunks = count_chunks(sequences * length, sequences, chunk_size, packed=False)
    if table_size(sequences, chunks) > _LARGEST or (gpu and torch.cuda.is_current_stream_capturing()):
        return _even_on(device, sequences, length, chunk_size)
    kept = _even_on_host(sequences, length, chunk_size, pinned=gpu)
    return Layout.over(kept.to(device, non_blocking=True, copy=True), sequences, chunks)


@lru_cache(maxsize=64)
def _even_on_host(sequences: int, length: int, chunk_size: int, *, pinned: bool) -> torch.Tensor:
    """The table of `even_layout` for every call, thread, stream and device; nobody writes to it. pinned: for a GPU."""
    # Whoever watches the first call, or runs it in inference mode, must not own what the others read.
    with _disable_current_modes(), torch.inference_mode(False):
        table = _even_on(torch.device("cpu"), sequences, length, chunk_size).table
        assert table is not None  # it is made in one
        return table.pin_memory() if pinned else table


def _even_on(device: torch.device, sequences: int, length: int, chunk_size: int) -> Layout:
    """The same, computed on the device."""
    chunks = count_chunks(sequences * length, sequences, chunk_size, packed=False)
    per_sequence = chunks // max(sequences, 1)
    made = _zeros(sequences, chunks, device)
    for bounds, step in ((made.cu_seqlens, length), (made.first_chunk, per_sequence)):
        torch.arange(sequences + 1, out=bounds, device=device).mul_(step)
    start, rows = made.chunks.view(sequences, per_sequence, 2).unbind(2)
    place = torch.arange(per_sequence, device=device)
    torch.add(made.cu_seqlens[:-1, None], place, alpha=chunk_size, out=start)
    rows.fill_(chunk_size)
    rows[:, -1:].fill_(length - (per_sequence - 1) * chunk_size)
    return made


def make_layout(cu_seqlens: torch.Tensor, tokens: int, chunk_size: int) -> Layout:
    """Split each sequence into chunks of at most `chunk_size` tokens, without a device synchronisation.

    The number of chunks is only known to the device, so the table has room for the most there can be.
    """
    sequences, device = cu_seqlens.shape[0] - 1, cu_seqlens.device
    count = count_chunks(tokens, sequences, chunk_size, packed=True)
    made = _zeros(sequences, count, device)
    bounds, first_chunk = made.cu_seqlens.copy_(cu_seqlens), made.first_chunk
    torch.cumsum((bounds[1:] - bounds[:-1] + (chunk_size - 1)) // chunk_size, 0, out=first_chunk[1:])
    chunk = torch.arange(count, dtype=torch.int64, device=device)
    # Without the end of the last sequence, so that chunks past the last are taken for its own.
    sequence = torch.searchsorted(first_chunk[1:-1], chunk, right=True)
    # Where the first chunk of the batch would begin, if all were chunks of this sequence.
    origin = torch.sub(bounds[:-1], first_chunk[:-1], alpha=chunk_size)[sequence]
    start, rows = made.chunks.unbind(1)
    torch.add(origin, chunk, alpha=chunk_size, out=start)
    torch.clamp(bounds[1:][sequence] - start, 0, chunk_size, out=rows)
    return made


def _zeros(sequences: int, chunks: int, device: torch.device) -> Layout:
    return Layout.over(torch.zeros(table_size(sequences, chunks), dtype=torch.int64, device=device), sequences, chunks)
