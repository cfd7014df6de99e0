"""Gated linear attention, token by token, forward only."""

from .op import gla_walk

__all__ = ["gla_walk"]
