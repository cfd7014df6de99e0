"""One call for inference, whose kernels read the inputs as the caller has them: no first stage runs before."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .config import LaunchConfig
from .shapes import Shapes


@dataclass(frozen=True, slots=True, kw_only=True)
class InferenceCall:
    """Packed, contiguous tensors of one call.

    q, k [tokens, H, K]; v [tokens, HV, V]; g [tokens, G(, K)], b [tokens, B(, K)], w [tokens, HV(, V)] or None;
    A_log [G] and dt_bias [G] or [G * K] where g is raw, else None; h0 [N, HV, K, V] fp32 or None; cu_seqlens [N + 1],
    or None for sequences that are equally long. sequences: N.
    normalise: divide q and k by their norms.
    """

    q: torch.Tensor
    k: torch.Tensor
    v: torch.Tensor
    g: torch.Tensor | None
    b: torch.Tensor | None
    w: torch.Tensor | None
    A_log: torch.Tensor | None
    dt_bias: torch.Tensor | None
    h0: torch.Tensor | None
    cu_seqlens: torch.Tensor | None
    sequences: int
    scale: float
    normalise: bool
    config: LaunchConfig

    @property
    def shapes(self) -> Shapes:
        return Shapes.of(self.q, self.v, self.g, self.b, self.w)

    @property
    def tensors(self) -> dict[str, torch.Tensor | None]:
        """The inputs per token and the parameters of the raw gate, by their names in kernels."""
        return {name: getattr(self, name) for name in ("q", "k", "v", "g", "b", "w", "A_log", "dt_bias")}

    @property
    def length(self) -> int:
        """Tokens per sequence, where they are equally long."""
        return self.q.shape[0] // max(self.sequences, 1)

    @property
    def solver(self) -> str:
        """Precision of the products that invert I + T.

        16-bit calls round the inverse to 16 bits: three bf16 products for each of fp32 lose nothing that is left then, and
        run on tensor cores. fp32 calls have what their configuration says.
        """
        chosen = self.config.solver
        return "bf16x3" if chosen == "ieee" and self.q.dtype != torch.float32 else chosen
