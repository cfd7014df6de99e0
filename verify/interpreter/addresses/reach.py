"""How far into each tensor the stores of a launch reach, counted from its end.

Of two calls that differ in size alone, the last programs write the ends of the same tensors. One that no longer does has met
a limit that the size has passed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
import triton.language as tl

from .memory import Memory


@dataclass(slots=True, kw_only=True)
class Reached:
    """One launch. shapes: of its tensors. left: bytes after the last store, of each; all of a tensor that is not written."""

    kernel: str
    shapes: list[tuple[int, ...]] = field(default_factory=list)
    left: list[int] = field(default_factory=list)


class Reach(Memory):
    """A memory check that looks at addresses only, and notes how far stores reach."""

    def __init__(self) -> None:
        super().__init__(contents=False)
        self.launches: list[Reached] = []
        self._spans: list[tuple[int, int]] = []

    def begin(self, kernel: str, tensors: list[torch.Tensor], warps: int = 1) -> None:
        super().begin(kernel, tensors, warps)
        spans = [(x.data_ptr(), sum(s * (n - 1) for s, n in zip(x.stride(), x.shape, strict=True))) for x in tensors]
        self._spans = [
            (start, start + (last + 1) * x.element_size()) if x.numel() else (start, start)
            for (start, last), x in zip(spans, tensors, strict=True)
        ]
        self.launches.append(
            Reached(kernel=kernel, shapes=[tuple(x.shape) for x in tensors], left=[end - at for at, end in self._spans])
        )

    def admit(self, kind: Any, addresses: np.ndarray, mask: np.ndarray, dtype: tl.dtype) -> np.ndarray:
        on = super().admit(kind, addresses, mask, dtype)
        active = addresses[np.broadcast_to(on, addresses.shape)]
        if kind != "load" and active.size:
            self._note(active.astype(np.int64) + max(1, dtype.primitive_bitwidth // 8))
        return on

    def _note(self, ends: np.ndarray) -> None:
        left = self.launches[-1].left
        for place, (start, end) in enumerate(self._spans):
            here = ends[(ends > start) & (ends <= end)]
            if here.size:
                left[place] = min(left[place], end - int(here.max()))
