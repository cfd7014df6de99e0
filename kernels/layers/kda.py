"""The layer of Kimi Delta Attention (arXiv 2510.26692)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..arguments.precision import widen
from .config import GateActivation, MixerConfig, config_or
from .mixer import Mixer, low_rank


class KimiDeltaAttention(Mixer):
    """Kimi Delta Attention: a channel-wise decay, and one gate per value head that erases and writes.

        b = w = sigmoid(x W_b) [.., HV]
        g = -exp(A_log) softplus(x W_f1 W_f2 + dt_bias) [.., HV, K], A_log per value head, dt_bias per channel, rank V

    lower_bound: a negative number L gives g = L sigmoid(exp(A_log) (x W_f1 W_f2 + dt_bias)) instead, which stays above
    L; A_log is then 0 at first, as in flash-linear-attention. The output gate has rank V, a bias and a sigmoid. Without
    a config, linear maps start as torch.nn.Linear does, as in the authors' own layer; a config's init_gain holds.
    """

    default_activation: ClassVar[GateActivation] = "sigmoid"

    def __init__(self, config: MixerConfig | None = None, *, lower_bound: float | None = None):
        c = config_or(MixerConfig(init_gain=None), config)
        if lower_bound is not None and not (isinstance(lower_bound, int | float) and -math.inf < lower_bound < 0):
            raise ValueError(f"lower_bound is {lower_bound!a:.60}; accepted: a negative log decay, or None")
        super().__init__(c, decay_heads=c.value_heads, decay_channels=c.head_dim, low_rank_gate=True)
        self.lower_bound = lower_bound
        self.f_proj = low_rank(c.hidden_size, c.value_channels, c.value_heads * c.head_dim)
        self.b_proj = nn.Linear(c.hidden_size, c.value_heads, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        super().reset_parameters()
        if self.lower_bound is not None:
            nn.init.zeros_(self.A_log)

    def gates(self, x: Tensor) -> dict[str, Any]:
        b = self._in_unit_interval(self.b_proj(x))
        f = self.f_proj(x)
        if self.lower_bound is None:
            return {**self._raw_decay(f, self.config.value_heads), "b": b}
        raw = (widen(f) + widen(self.dt_bias)).unflatten(-1, (self.config.value_heads, -1))
        return {"g": self.lower_bound * torch.sigmoid(widen(self.A_log).exp()[:, None] * raw), "b": b}
