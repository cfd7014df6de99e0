"""The layer of Gated DeltaNet-2 (arXiv 2605.22791)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from .config import MixerConfig, config_or
from .mixer import Mixer, low_rank


class GatedDeltaNet2(Mixer):
    """Gated DeltaNet-2: channel-wise erase gates on the key side, channel-wise write gates on the value side.

        b = sigmoid(x W_b) [.., H, K]        w = sigmoid(x W_w) [.., HV, V]
        g = -exp(A_log) softplus(x W_f1 W_f2 + dt_bias) [.., H, K], A_log per head, dt_bias per channel, rank V

    Neither gate has a bias or a convolution. With grouped values, g and b are shared like q and k. The output gate has rank V
    and a bias, and the paper's activation, SiLU; flash-linear-attention has a sigmoid instead. 26,243,216 parameters with
    the default sizes.
    """

    def __init__(self, config: MixerConfig | None = None):
        c = config_or(MixerConfig(), config)
        super().__init__(c, decay_heads=c.num_heads, decay_channels=c.head_dim, low_rank_gate=True)
        self.f_proj = low_rank(c.hidden_size, c.value_channels, c.key_size)
        self.b_proj = nn.Linear(c.hidden_size, c.key_size, bias=False)
        self.w_proj = nn.Linear(c.hidden_size, c.value_size, bias=False)
        self.reset_parameters()

    def gates(self, x: Tensor) -> dict[str, Any]:
        c = self.config
        return {
            **self._raw_decay(self.f_proj(x), c.num_heads),
            "b": self._in_unit_interval(self.b_proj(x)).unflatten(-1, (c.num_heads, c.head_dim)),
            "w": torch.sigmoid(self.w_proj(x)).unflatten(-1, (c.value_heads, c.value_channels)),
        }
