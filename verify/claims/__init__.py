"""The claims of the papers as experiments, one file per group. Each runs in seconds on one core and decides by its numbers."""

from __future__ import annotations

from . import backward, carve, numerics, reductions, stability, update
from .base import Claim, ClaimFinding, ClaimResult

GROUPS: dict[str, tuple[Claim, ...]] = {
    "What it contains": reductions.CLAIMS,
    "One step, and a chunk": update.CLAIMS,
    "Backward and precision": backward.CLAIMS,
    "Decays": numerics.CLAIMS,
    "Stability": stability.CLAIMS,
    "CARVE": carve.CLAIMS,
}
"""Heading of a report -> the claims below it."""

CLAIMS: dict[str, Claim] = {claim.name: claim for claims in GROUPS.values() for claim in claims}

__all__ = ["CLAIMS", "GROUPS", "Claim", "ClaimFinding", "ClaimResult"]
