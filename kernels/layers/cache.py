"""The state that a mixer keeps between calls."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from ..relatives.carve import CarveCache


class Windows(NamedTuple):
    """The last conv_size - 1 inputs of each convolution, [N, conv_size - 1, channels], the newest last."""

    q: Tensor
    k: Tensor
    v: Tensor


class MixerCache(NamedTuple):
    """All that N sequences leave behind. A cache is a value: decoding gives a new one and leaves the old one as it was.

    memory: the states [N, HV, K, V], fp32 (fp64 in an fp64 layer); for CARVE the cache of its op.
    windows: None in a layer without convolutions.
    """

    memory: Tensor | CarveCache
    windows: Windows | None

    @property
    def sequences(self) -> int:
        """N."""
        return (self.memory if isinstance(self.memory, Tensor) else self.memory.state).shape[0]
