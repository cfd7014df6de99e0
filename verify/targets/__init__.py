"""Whose kernels are judged. A `Target` is a named set of Kernels: ours, or those that a module offers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

OWN = "deltaproof"
FORMS = (OWN, "module:KERNELS")
"""How a target may be named: ours, or a module and a mapping in it of names to kernels."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A name and its kernels by id. Kernels have the fields of `deltaproof.kernels.Kernel`, wherever they come from.

    storable: verdicts may be kept, since the store's key covers all sources that the kernels are made of.
    """

    name: str
    kernels: Mapping[str, Any]
    storable: bool


def load(name: str) -> Target:
    """Import a target. TRITON_INTERPRET must be set, or not, before. Raises ValueError that says what is accepted."""
    if name == OWN:
        from ..kernels import KERNELS

        return Target(name=name, kernels=KERNELS, storable=True)
    module, colon, attribute = name.partition(":")
    if not (module and colon and attribute):
        raise ValueError(f"unknown target {name!r}; accepted: {' or '.join(FORMS)}")
    try:
        kernels = getattr(import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"target {name!r} cannot be imported: {error}") from None
    if not isinstance(kernels, Mapping) or not kernels:
        raise ValueError(f"target {name!r} is a {type(kernels).__name__}; accepted: a mapping of names to kernels")
    return Target(name=name, kernels=kernels, storable=False)
