"""Layers from the state dicts of flash-linear-attention 0.6.0."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from torch import Tensor

from ..arguments.axes import dense, sort_of
from ..arguments.door import refuse_unknown
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

    Raises TypeError and ValueError, in one line, for another kind, for what is no state dict, and for weights that are
    missing, left over, or of another shape.
    """
    if not any(kind is layer for layer in _ACTIVATIONS):
        found = kind.__name__ if isinstance(kind, type) else f"{kind!a:.60}"
        raise ValueError(f"kind is {found}; accepted: {', '.join(layer.__name__ for layer in _ACTIVATIONS)}")
    if num_heads is not None and (type(num_heads) is not int or num_heads < 1):
        raise ValueError(f"num_heads is {num_heads!a:.60}; accepted: a whole number of at least 1, or None")
    fields = MixerConfig.__dataclass_fields__
    refuse_unknown("from_fla", options, {*fields, *inspect.signature(kind).parameters} - {"config"})
    weights = _weights(state, prefix)
    config = _read_config(kind, weights, num_heads)
    choices = {name: options.pop(name) for name in list(options) if name in fields}
    layer = kind(replace(config, **choices), **options)
    shapes = {name: x.shape for name, x in layer.state_dict().items()}
    if shapes.keys() != weights.keys():
        missing, extra = sorted(shapes.keys() - weights.keys()), sorted(weights.keys() - shapes.keys())
        raise ValueError(f"state does not fit a {kind.__name__}: missing {missing}, left over {extra}")
    for name, shape in shapes.items():
        if weights[name].shape != shape:
            raise ValueError(f"state has {name} of shape {list(weights[name].shape)}; accepted: {list(shape)}")
    layer.to(weights["q_proj.weight"].dtype)
    # The decay's parameters have a dtype of their own.
    for name in ("A_log", "dt_bias"):
        getattr(layer, name).data = getattr(layer, name).data.to(weights[name].dtype)
    layer.load_state_dict(weights)
    return layer


def _weights(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The weights under a prefix, by their names without it. Raises TypeError for what is no state dict."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state is of type {type(state).__name__}; accepted: the state dict of a layer, or of a model")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix is of type {type(prefix).__name__}; accepted: a str")
    for name in state:
        if not isinstance(name, str):
            raise TypeError(f"state has the key {name!a:.60}; accepted: names of weights")
    weights = {name.removeprefix(prefix): x for name, x in state.items() if name.startswith(prefix)}
    for name, x in weights.items():
        if not dense(x) or not x.is_floating_point() or x.is_meta:
            found = "on meta" if dense(x) and x.is_meta else sort_of(x)
            raise TypeError(f"state has {name!a:.60}, which is {found}; accepted: dense floating-point numbers")
    return weights


_AXES = {"q_proj.weight": 2, "v_proj.weight": 2, "A_log": 1, "dt_bias": 1, "o_norm.weight": 1}
"""Of the weights that sizes are read off."""


def _read_config(kind: type[Mixer], weights: Mapping[str, Tensor], num_heads: int | None) -> MixerConfig:
    if missing := [name for name in _AXES if name not in weights]:
        raise ValueError(f"state has no {missing[0]}; accepted: the state dict of a {kind.__name__}, or its prefix")
    for name, axes in (_AXES | {"q_conv1d.weight": 3}).items():
        if name in weights and weights[name].dim() != axes:
            raise ValueError(f"state has {name} of shape {list(weights[name].shape)}; accepted: {axes} axes")
    query, norm = weights["q_proj.weight"], weights["o_norm.weight"]

    def rows_over(name: str, divisor: int, what: str) -> int:
        rows = weights[name].shape[0]
        if not rows or not divisor or rows % divisor:
            raise ValueError(f"state has {rows} rows in {name}; accepted: a multiple of {divisor}, the {what}")
        return rows // divisor

    value_heads = rows_over("v_proj.weight", norm.shape[0], "channels of o_norm.weight")
    if kind is GatedDeltaNet2:
        heads = weights["A_log"].shape[0]
    elif kind is KimiDeltaAttention:
        heads = rows_over("q_proj.weight", rows_over("dt_bias", value_heads, "value heads"), "key channels")
    else:
        heads = value_heads if num_heads is None else num_heads
    if num_heads not in (None, heads):
        raise ValueError(f"num_heads is {num_heads}; accepted: {heads}, which the weights have")
    taps = weights.get("q_conv1d.weight")
    return MixerConfig(
        hidden_size=query.shape[1],
        num_heads=heads,
        head_dim=rows_over("q_proj.weight", heads, "key heads"),
        num_v_heads=value_heads,
        head_v_dim=norm.shape[0],
        conv_size=0 if taps is None else taps.shape[-1],
        conv_bias="q_conv1d.bias" in weights,
        gate_activation=_ACTIVATIONS[kind] if any(name.startswith("g_proj.") for name in weights) else "none",
    )
