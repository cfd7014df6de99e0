"""The properties, one idea per file: module `equality` defines `EQUALITY`, and so on."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .base import Property

NAMES = (
    "oracle",
    "hostile_input",
    "equality",
    "adjoint",
    "linearity",
    "permutation",
    "reduction",
    "packing",
    "hand_off",
    "chunk_invariance",
    "call_styles",
    "memory",
    "offsets",
    "error",
    "relative",
    "causality",
    "identities",
    "nan_locality",
    "determinism",
)
"""Names of all properties, in the order of reports. Kept apart from the modules, which import torch."""


def load(name: str) -> Property:
    """The property of that name. Raises ValueError that lists the names there are."""
    if name not in NAMES:
        raise ValueError(f"unknown property {name!r}; known: {', '.join(NAMES)}")
    return getattr(import_module(f".{name}", __package__), name.upper())
