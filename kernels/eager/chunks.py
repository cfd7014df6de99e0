"""How the torch path cuts packed sequences into chunks, and puts the tokens back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ChunkPlan:
    """The chunks that there are, in the order in which they are walked: every sequence's first, then every second one, ...

    lengths: tokens per sequence. size: tokens per chunk. order: [N] sequences, those with most chunks first.
    active: sequences that have a chunk at each step; one step of none if there is no chunk at all.
    rows: [M] place of each walked chunk in the order of the tokens.
    """

    lengths: list[int]
    size: int
    order: Tensor
    active: list[int]
    rows: Tensor

    @property
    def padding(self) -> list[int]:
        """Tokens that each sequence lacks to whole chunks."""
        return [-length % self.size for length in self.lengths]


def make_plan(lengths: list[int], chunk_size: int, device: torch.device) -> ChunkPlan:
    """Cut sequences into chunks of `chunk_size` tokens, or of the next power of two if the longest has fewer."""
    size = min(chunk_size, 1 << max(0, max(lengths) - 1).bit_length())
    counts = [-(-length // size) for length in lengths]
    first = [0, *accumulate(counts)]
    order = sorted(range(len(lengths)), key=lambda sequence: -counts[sequence])
    active = [sum(count > step for count in counts) for step in range(max(1, *counts))]
    rows = [first[sequence] + step for step, n in enumerate(active) for sequence in order[:n]]
    return ChunkPlan(
        lengths=lengths,
        size=size,
        order=_on(device, order),
        active=active,
        rows=_on(device, rows),
    )


def _on(device: torch.device, numbers: list[int]) -> Tensor:
    """int64, without waiting for the device."""
    return torch.tensor(numbers, dtype=torch.int64).to(device, non_blocking=True)


def to_chunks(plan: ChunkPlan, x: Tensor) -> Tensor:
    """[tokens, H, R, D] -> [M, H, R, C, D], with zeros after the last token of each sequence."""
    if any(plan.padding):
        pieces = zip(x.split(plan.lengths), plan.padding, strict=True)
        x = torch.cat([F.pad(piece, (0, 0, 0, 0, 0, 0, 0, missing)) for piece, missing in pieces])
    x = x.unflatten(0, (plan.rows.shape[0], plan.size))
    if len(plan.lengths) > 1:
        x = x.index_select(0, plan.rows)
    return x.permute(0, 2, 3, 1, 4).contiguous()


def to_tokens(plan: ChunkPlan, x: Tensor) -> Tensor:
    """The inverse of `to_chunks`."""
    x = x.permute(0, 3, 1, 2, 4)
    if len(plan.lengths) > 1:
        x = x.index_select(0, plan.rows.argsort())
    x = x.flatten(0, 1)
    if any(plan.padding):
        pieces = x.split([length + missing for length, missing in zip(plan.lengths, plan.padding, strict=True)])
        x = torch.cat([piece[:length] for piece, length in zip(pieces, plan.lengths, strict=True)])
    return x
