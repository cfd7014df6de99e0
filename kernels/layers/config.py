"""The sizes and choices that every mixer has, checked once."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from ..arguments.checks import MAX_HEAD_DIM

GateActivation = Literal["silu", "sigmoid", "none"]
LARGEST_SIZE = 2**24
"""Of anything that is counted, so that a slip of the keyboard does not ask for all memory."""
PAPER_GAIN = 2**-2.5
"""Gain of the Xavier-uniform initialisation of Gated DeltaNet and Gated DeltaNet-2."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MixerConfig:
    """Sizes and choices of one token mixer. The defaults are those of Gated DeltaNet-2 (arXiv 2605.22791).

    hidden_size: channels of the residual stream.
    num_heads, head_dim: query and key heads, and their channels K.
    num_v_heads: value heads, a multiple of num_heads; as many as num_heads if None.
    head_v_dim: channels V of a value head; head_dim if None.
    conv_size: taps of the causal convolutions of q, k and v; 0 for none. conv_bias: whether they have a bias.
    negative_eigenvalues: the erase gate (beta, where there is one gate) is in [0, 2] instead of [0, 1].
    gate_activation: of the output gate, "silu", "sigmoid", or "none" for no gate; None is the choice of the layer's paper.
    norm_eps: of the output norm, under the root.
    disable_recompute: training on a GPU keeps in memory what its backward pass would else compute again (`gated_delta_rule`).
    init_gain: Xavier-uniform gain of every linear map; None leaves the initialisation of torch.nn.Linear.

    Raises ValueError, in one line, for sizes and choices that cannot be built.
    """

    hidden_size: int = 2048
    num_heads: int = 16
    head_dim: int = 128
    num_v_heads: int | None = None
    head_v_dim: int | None = None
    conv_size: int = 4
    conv_bias: bool = False
    negative_eigenvalues: bool = False
    gate_activation: GateActivation | None = None
    norm_eps: float = 1e-5
    init_gain: float | None = PAPER_GAIN
    disable_recompute: bool = False

    def __post_init__(self):
        for name in ("hidden_size", "num_heads", "head_dim", "value_heads", "value_channels"):
            if type(getattr(self, name)) is not int or not 1 <= getattr(self, name) <= LARGEST_SIZE:
                raise ValueError(f"{name} is {getattr(self, name)!a:.60}; accepted: at least 1, a whole number")
        if self.value_heads % self.num_heads:
            raise ValueError(f"num_v_heads is {self.value_heads}; accepted: a multiple of num_heads = {self.num_heads}")
        for name, size in (("head_dim", self.head_dim), ("head_v_dim", self.value_channels)):
            if size > MAX_HEAD_DIM:
                raise ValueError(f"{name} is {size}; accepted: at most {MAX_HEAD_DIM}")
        if type(self.conv_size) is not int or not 0 <= self.conv_size <= LARGEST_SIZE:
            raise ValueError(
                f"conv_size is {self.conv_size!a:.60}; accepted: a number of taps, or 0 for no convolution"
            )
        for name, value in (("norm_eps", self.norm_eps), ("init_gain", self.init_gain)):
            if not (value is None and name == "init_gain") and not (
                isinstance(value, int | float) and math.isfinite(value) and value >= 0
            ):
                raise ValueError(f"{name} is {value!a:.60}; accepted: a finite number of 0 or more")
        if not (
            isinstance(self.gate_activation, str | None) and self.gate_activation in (None, "silu", "sigmoid", "none")
        ):
            raise ValueError(f"gate_activation is {self.gate_activation!a:.60}; accepted: silu, sigmoid, none, or None")

        for name in ("conv_bias", "negative_eigenvalues", "disable_recompute"):
            if type(getattr(self, name)) is not bool:
                raise TypeError(f"{name} is {getattr(self, name)!a:.60}; accepted: True or False")

    @property
    def value_heads(self) -> int:
        return self.num_heads if self.num_v_heads is None else self.num_v_heads

    @property
    def value_channels(self) -> int:
        return self.head_dim if self.head_v_dim is None else self.head_v_dim

    @property
    def key_size(self) -> int:
        """Channels of all keys."""
        return self.num_heads * self.head_dim

    @property
    def value_size(self) -> int:
        """Channels of all values."""
        return self.value_heads * self.value_channels


def config_or(default: MixerConfig, config: MixerConfig | None) -> MixerConfig:
    """The configuration of a layer. Raises TypeError for another type."""
    if config is not None and not isinstance(config, MixerConfig):
        raise TypeError(f"config is of type {type(config).__name__}; accepted: a MixerConfig, or None")
    return default if config is None else config
