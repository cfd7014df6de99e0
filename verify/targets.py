"""Whose kernels are judged. A `Target` is a named set of Kernels; ours is the only one so far."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A name and its kernels by id. Kernels have the fields of `deltaproof.kernels.Kernel`, wherever they come from."""

    name: str
    kernels: Mapping[str, Any]


def _own() -> Mapping[str, Any]:
    from ..kernels import KERNELS

    return KERNELS


_LOADERS: dict[str, Callable[[], Mapping[str, Any]]] = {"deltaproof": _own}

NAMES = tuple(_LOADERS)
"""Targets that can be named."""


def load(name: str) -> Target:
    """Import a target. TRITON_INTERPRET must be set, or not, before. Raises ValueError that lists the targets."""
    if name not in _LOADERS:
        raise ValueError(f"unknown target {name!r}; known: {', '.join(NAMES)}")
    return Target(name=name, kernels=_LOADERS[name]())
