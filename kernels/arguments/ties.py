"""How a gate is tied, as the compile-time constants that kernels branch on."""

from __future__ import annotations

import triton.language as tl

from . import shapes

NONE = tl.constexpr(shapes.NONE)
SCALAR = tl.constexpr(shapes.SCALAR)
CHANNEL = tl.constexpr(shapes.CHANNEL)
