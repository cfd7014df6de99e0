"""The layer of Gated DeltaNet (arXiv 2412.06464)."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from .config import MixerConfig, config_or
from .mixer import Mixer


class GatedDeltaNet(Mixer):
    """Gated DeltaNet: one decay and one gate per value head.

        b = w = sigmoid(x W_b) [.., HV]
        g = -exp(A_log) softplus(x W_a + dt_bias) [.., HV]

    The output gate is one linear map without bias, with SiLU; gate_activation="none" leaves it out.
    """

    smallest_rate: ClassVar[float] = 0.0

    def __init__(self, config: MixerConfig | None = None):
        c = config_or(MixerConfig(), config)
        super().__init__(c, decay_heads=c.value_heads, decay_channels=1, low_rank_gate=False)
        self.a_proj = nn.Linear(c.hidden_size, c.value_heads, bias=False)
        self.b_proj = nn.Linear(c.hidden_size, c.value_heads, bias=False)
        self.reset_parameters()

    def gates(self, x: Tensor) -> dict[str, Any]:
        decay = self._raw_decay(self.a_proj(x), self.config.value_heads)
        return {**decay, "b": self._in_unit_interval(self.b_proj(x))}
