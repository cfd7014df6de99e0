"""Sizes and ties of one call, read off its tensors, as every stage needs them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import prod

import torch

from ..configs.launch_config import padded

NONE, SCALAR, CHANNEL = 0, 1, 2
"""How a gate is tied; `ties.py` hands these numbers to kernels."""


def tie(gate: torch.Tensor | None, lead: int = 1) -> int:
    """A gate [tokens, heads] is one number per head, [tokens, heads, channels] one per channel. lead: axes of tokens."""
    return NONE if gate is None else gate.dim() - lead


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """tokens; H key heads, HV value heads, G and B heads of g and b; head dimensions K, V; ties of g, b and w."""

    tokens: int
    H: int
    HV: int
    G: int
    B: int
    K: int
    V: int
    DECAY: int
    ERASE: int
    WRITE: int

    @classmethod
    def of(
        cls,
        q: torch.Tensor,
        v: torch.Tensor,
        g: torch.Tensor | None,
        b: torch.Tensor | None,
        w: torch.Tensor | None,
    ) -> Shapes:
        """From q [tokens, H, K], v [tokens, HV, V] and the gates, where tokens may be two axes, batch and time."""
        *tokens, H, K = q.shape
        lead = len(tokens)
        HV, V = v.shape[lead:]
        G, B = HV if g is None else g.shape[lead], HV if b is None else b.shape[lead]
        return _shapes(prod(tokens), H, HV, G, B, K, V, tie(g, lead), tie(b, lead), tie(w, lead))

    @property
    def K_block(self) -> int:
        """Columns of a tile that holds all of K."""
        return padded(self.K)

    @property
    def V_block(self) -> int:
        """Columns of a tile that holds all of V."""
        return padded(self.V)

    def constants(self, *names: str) -> dict[str, int]:
        """Some of the fields, as the keyword arguments of a kernel launch; to be read, not written to."""
        return _constants(self, names)


@lru_cache(maxsize=1024)
def _shapes(*values: int) -> Shapes:
    """The fields in their order. Kept, since a call in a decoding loop has the sizes of the one before."""
    return Shapes(**dict(zip(Shapes.__dataclass_fields__, values, strict=True)))


@lru_cache(maxsize=4096)
def _constants(shapes: Shapes, names: tuple[str, ...]) -> dict[str, int]:
    return {name: getattr(shapes, name) for name in names}
