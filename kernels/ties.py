"""How a gate is tied, as the compile-time constants that kernels branch on."""

from __future__ import annotations

import triton.language as tl

NONE = tl.constexpr(0)
SCALAR = tl.constexpr(1)
CHANNEL = tl.constexpr(2)
