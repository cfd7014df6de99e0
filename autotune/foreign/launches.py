"""The autotuned kernels of somebody else's call, their keys and their configurations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ...verify.targets.tuners import LaunchChoice

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch

HEADS = (4, 8, 16, 32)
BATCHES = (1, 2, 4, 8)
TOKENS = (2048, 8192, 32768)
"""Calls whose keys are written. A program compiled for one is taken for those that differ in these alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedKernel:
    """One autotuned kernel of a call: its key, and its launch in each configuration that it is offered in.

    order: which of the call's launches with autotuning it is, so that calls that differ in size alone can be matched.
    """

    kernel: str
    order: int
    key: tuple[Any, ...]
    launches: dict[LaunchChoice, Launch]
