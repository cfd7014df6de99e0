"""Layers from the state dicts of flash-linear-attention 0.6.0."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from .config import GateActivation, MixerConfig
from .gdn import GatedDeltaNet
from .gdn2 import GatedDeltaNet2
from .kda import KimiDeltaAttention
from .mixer import Mixer

Layer = TypeVar("Layer", bound=Mixer)
_ACTIVATIONS: dict[type[Mixer], GateActivation] = {
    GatedDeltaNet2: "sigmoid",
    KimiDeltaAttention: "sigmoid",
    GatedDeltaNet: "silu",
}
"""Of the output gate, in flash-linear-attention; Gated DeltaNet-2's differs from the paper's."""


def from_fla(
    kind: type[Layer], state: Mapping[str, Tensor], *, prefix: str = "", num_heads: int | None = None, **options: Any
) -> Layer:
    """A layer with the weights of flash-linear-attention's layer of the same name.

    Sizes are read off the weights. Choices that leave no trace in them are options: those of `MixerConfig` (negative_eigenvalues
    is their `allow_neg_eigval`; gate_activation is that library's unless given), and the arguments of the layer itself.

    Args:
        kind: GatedDeltaNet2, KimiDeltaAttention or GatedDeltaNet.
        state: the layer's state dict, or a model's with the `prefix` of the layer ("model.layers.3.attn.").
        num_heads: key heads; needed for a Gated DeltaNet with grouped values, whose weights do not tell.

    Raises ValueError, in one line, for another kind, and for a name that is missing or left over.
    """
    if kind not in _ACTIVATIONS:
        raise ValueError(f"kind is {kind.__name__}; accepted: {', '.join(layer.__name__ for layer in _ACTIVATIONS)}")
    weights = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    config = _read_config(kind, weights, num_heads)
    choices = {name: options.pop(name) for name in list(options) if name in MixerConfig.__dataclass_fields__}
    layer = kind(replace(config, **choices), **options)
    found = layer.state_dict().keys()
    if found != weights.keys():
        missing, extra = sorted(found - weights.keys()), sorted(weights.keys() - found)
        raise ValueError(f"state does not fit a {kind.__name__}: missing {missing}, left over {extra}")
    layer.to(weights["q_proj.weight"].dtype)
    # The decay's parameters have a dtype of their own.
    for name in ("A_log", "dt_bias"):
        getattr(layer, name).data = getattr(layer, name).data.to(weights[name].dtype)
    layer.load_state_dict(dict(weights))
    return layer


def _read_config(kind: type[Mixer], weights: Mapping[str, Tensor], num_heads: int | None) -> MixerConfig:
    names = ("q_proj.weight", "v_proj.weight", "A_log", "dt_bias", "o_norm.weight")
    if missing := [name for name in names if name not in weights]:
        raise ValueError(f"state has no {missing[0]}; accepted: the state dict of a {kind.__name__}, or its prefix")
    query, value, rates, biases, norm = (weights[name] for name in names)
    value_heads = value.shape[0] // norm.shape[0]
    if kind is GatedDeltaNet2:
        heads = rates.shape[0]
    elif kind is KimiDeltaAttention:
        heads = query.shape[0] // (biases.shape[0] // value_heads)
    else:
        heads = value_heads if num_heads is None else num_heads
    if num_heads not in (None, heads):
        raise ValueError(f"num_heads is {num_heads}; accepted: {heads}, which the weights have")
    taps = weights.get("q_conv1d.weight")
    return MixerConfig(
        hidden_size=query.shape[1],
        num_heads=heads,
        head_dim=query.shape[0] // heads,
        num_v_heads=value_heads,
        head_v_dim=norm.shape[0],
        conv_size=0 if taps is None else taps.shape[-1],
        conv_bias="q_conv1d.bias" in weights,
        gate_activation=_ACTIVATIONS[kind] if any(name.startswith("g_proj.") for name in weights) else "none",
    )
