"""One call on packed tensors, the argument of every variant."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..configs.launch_config import LaunchConfig
from .layout import Layout, count_chunks, even_layout, even_sequences, make_layout
from .shapes import Shapes

PER_TOKEN = ("q", "k", "v", "g", "b", "w")
"""The inputs that have an entry for every token, by their names in calls, operators and kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Packed, contiguous tensors of one call.

    q, k [tokens, H, K]; v [tokens, HV, V]; g [tokens, G(, K)], b [tokens, B(, K)], w [tokens, HV(, V)] or None;
    h0 [N, HV, K, V] fp32 or None; cu_seqlens [N + 1], or None for sequences that are equally long. sequences: N.
    chunks, first_chunk: of a `Layout` of chunks of `config.chunk_size` tokens, if the caller has them. table: of the layout that
    another pass over the same call has made.

    For the variants that read the inputs as the caller has them: A_log [G] and dt_bias [G] or [G * K] where g is raw, else
    None; normalise: divide q and k by their norms.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor | None
    b: torch.Tensor | None
    w: torch.Tensor | None
    h0: torch.Tensor | None
    cu_seqlens: torch.Tensor | None
    sequences: int
    scale: float
    config: LaunchConfig
    chunks: torch.Tensor | None = None
    first_chunk: torch.Tensor | None = None
    table: torch.Tensor | None = None
    A_log: torch.Tensor | None = None
    dt_bias: torch.Tensor | None = None
    normalise: bool = False

    @property
    def shapes(self) -> Shapes:
        return Shapes.of(self.q, self.v, self.g, self.b, self.w)

    @property
    def tensors(self) -> dict[str, torch.Tensor | None]:
        """The inputs per token and the parameters of the raw gate, by their names in kernels."""
        return {name: getattr(self, name) for name in (*PER_TOKEN, "A_log", "dt_bias")}

    @property
    def length(self) -> int:
        """Tokens per sequence where they are equally long, else 0."""
        return self.q.shape[0] // max(self.sequences, 1) if self.cu_seqlens is None else 0

    @property
    def boundaries(self) -> torch.Tensor:
        """[N + 1], also of sequences that are equally long."""
        if self.cu_seqlens is None:
            return even_sequences(self.sequences, self.length, self.q.device)
        return self.cu_seqlens

    @property
    def layout(self) -> Layout:
        """Where the chunks lie; made, unless the caller has it or another pass has made it."""
        chunk_size, tokens, bounds = self.config.chunk_size, self.q.shape[0], self.cu_seqlens
        if self.table is not None:
            chunks = count_chunks(tokens, self.sequences, chunk_size, packed=bounds is not None)
            return Layout.over(self.table, self.sequences, chunks)
        if bounds is None:
            return even_layout(self.sequences, self.length, chunk_size, self.q.device)
        if self.chunks is not None and self.first_chunk is not None:
            return Layout(cu_seqlens=bounds, chunks=self.chunks, first_chunk=self.first_chunk)
        return make_layout(bounds, tokens, chunk_size)

    @property
    def solver(self) -> str:
        """Precision of the products that invert I + T.

        16-bit calls round the inverse to 16 bits: three bf16 products for each of fp32 lose nothing that is left then, and run on
        tensor cores. fp32 calls take the precision of their configuration.
        """
        chosen = self.config.solver
        return "bf16x3" if chosen == "ieee" and self.q.dtype != torch.float32 else chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class Gradients:
    """Gradients of a `Call`'s tensors, each like its tensor; None for a tensor that the call does not have."""

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor | None
    b: torch.Tensor | None
    w: torch.Tensor | None
    h0: torch.Tensor | None
