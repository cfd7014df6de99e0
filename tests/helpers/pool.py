"""Tokens to decode, and a pool of states for them."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from deltaproof.specs.rule import RULES

H, HV, K, V = 1, 2, 20, 24
SLOTS = 7


def tokens(rule: str, B: int, T: int) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(B * 10 + T)
    known = RULES[rule]

    def rand(*shape: int) -> torch.Tensor:
        return torch.rand(B, T, *shape, generator=draw)

    def gate(tied: str, channels: int) -> torch.Tensor | None:
        return None if tied in ("none", "tied") else rand(HV, *([channels] if tied == "channel" else []))

    g = gate(known.decay, K)
    return {
        "q": F.normalize(rand(H, K) - 0.5, dim=-1),
        "k": F.normalize(rand(H, K) - 0.5, dim=-1),
        "v": rand(HV, V) - 0.5,
        "g": None if g is None else -g,
        "b": gate(known.erase, K),
        "w": gate(known.write, V),
    }


def pool() -> torch.Tensor:
    return torch.rand(SLOTS, HV, K, V, generator=torch.Generator().manual_seed(3)) - 0.5
