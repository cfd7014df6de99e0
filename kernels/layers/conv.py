"""The short causal convolution before q, k and v."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class ShortConvolution(nn.Conv1d):
    """SiLU of a causal convolution of each channel over its last `size` tokens.

    `weight` [channels, 1, size], last tap on the token itself, uniform within +-1 / sqrt(size) at first; `bias`
    [channels] or None. Computed in the dtype of its input.
    """

    def __init__(self, channels: int, size: int, *, bias: bool = False):
        for name, count in (("channels", channels), ("size", size)):
            if type(count) is not int or count < 1:
                raise ValueError(f"{name} is {count!r}; accepted: at least 1, a whole number")
        super().__init__(channels, channels, size, groups=channels, bias=bias)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  # a convolution with a memory
        self, x: Tensor, window: Tensor | None = None, cu_seqlens: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Outputs like x [B, T, channels], and the window [N, size - 1, channels] that the next call continues from.

        window: the inputs before the first token of each of the N sequences, the newest last; zeros if None.
        cu_seqlens [N + 1]: boundaries of the sequences packed into x, whose B is then 1.
        """
        if cu_seqlens is not None:
            return self._packed(x, window, cu_seqlens)
        if window is None:
            window = x.new_zeros(x.shape[0], self.kernel_size[0] - 1, x.shape[2])
        extended = torch.cat([window.to(x.dtype), x], 1)
        return self._convolve(extended), extended[:, x.shape[1] :]

    def _packed(self, x: Tensor, window: Tensor | None, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
        """Every sequence gets room for its window in front, then all are convolved as one."""
        memory, tokens, sequences = self.kernel_size[0] - 1, x.shape[1], cu_seqlens.shape[0] - 1
        number = torch.arange(sequences, device=x.device)
        sequence = torch.repeat_interleave(number, cu_seqlens.diff(), output_size=tokens)
        rows = torch.arange(tokens, device=x.device) + memory * (sequence + 1)
        slot = torch.arange(memory, device=x.device)
        extended = x.new_zeros(tokens + memory * sequences, x.shape[2]).index_copy(0, rows, x[0])
        if window is not None:
            first = cu_seqlens[:-1] + memory * number
            extended = extended.index_copy(0, (first[:, None] + slot).flatten(), window.to(x.dtype).flatten(0, 1))
        last = cu_seqlens[1:] + memory * number
        return self._convolve(extended[None])[:, rows - memory], extended[last[:, None] + slot]

    def _convolve(self, extended: Tensor) -> Tensor:
        """[B, size - 1 + T, channels] -> [B, T, channels]."""
        if extended.shape[1] < self.kernel_size[0]:
            return extended[:, :0]
        return F.silu(super().forward(extended.mT).mT)
