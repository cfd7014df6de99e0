"""The relatives: every system of the family's papers, by its own published recurrence; and the systems outside, with reasons."""

from __future__ import annotations

from .carve import CARVE
from .comba import COMBA
from .delta_product import DELTA_PRODUCT
from .delta_rule import DELTA_RULE
from .gated_deltanet import GATED_DELTANET
from .gdn2 import GDN2
from .gla import GLA
from .kda import KDA
from .linear import LINEAR
from .longhorn import LONGHORN
from .mamba2 import MAMBA2
from .mamba3 import MAMBA3, MAMBA3_MIMO
from .preconditioned import PRECONDITIONED_GDN, PRECONDITIONED_KDA
from .retention import RETENTION
from .rwkv7 import RWKV7
from .system import Drawn, System, drawn, solve

SYSTEMS: dict[str, System] = {
    system.name: system
    for system in (
        LINEAR, RETENTION, MAMBA2, GLA, DELTA_RULE, GATED_DELTANET, KDA, GDN2, CARVE, COMBA, PRECONDITIONED_GDN,
        PRECONDITIONED_KDA, DELTA_PRODUCT, RWKV7, MAMBA3, MAMBA3_MIMO, LONGHORN,
    )
}  # fmt: skip
"""The systems by name. Names that are also rules are that rule."""

UNSUPPORTED: dict[str, str] = {
    "softmax attention": "its state is the whole past, not K x V numbers",
    "sliding-window attention": "softmax again; torch.nn.functional.scaled_dot_product_attention with a mask computes it",
    "gated Oja rule": "the state recurrence is the rule with k and v exchanged, but the output reads along the other axis",
    "MesaNet": "solves a linear system per token (conjugate gradients) instead of one step",
    "TTT, Titans": "momentum or an inner network: state beyond K x V, and steps that are not linear in it",
    "log-linear attention": "a state per power of two of the past, not one",
    "RWKV-6": "its state is GLA's, but it reads before the write and adds a bonus for the token itself",
    "Longhorn as published": "a step size per value channel: an elementwise decay of K x V numbers, as in Mamba-1",
    "value-axis erase": "an erase gate on the value axis needs one inverse per value channel; see the claims about CARVE",
}
"""Systems that are near the family and not in it, each with the reason."""

__all__ = ["SYSTEMS", "UNSUPPORTED", "Drawn", "System", "drawn", "solve"]
