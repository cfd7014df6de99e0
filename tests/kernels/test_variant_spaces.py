"""The tuning spaces of the inference variants: their defaults are points of them, and nothing else is promised here."""

from __future__ import annotations

import pytest

from deltaproof.kernels.config import LaunchConfig
from deltaproof.kernels.space import CONSTRAINTS, VARIANT_SPACES


@pytest.mark.parametrize("variant", VARIANT_SPACES)
@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
def test_the_default_is_a_feasible_point(variant: str, dtype: str):
    default = LaunchConfig()
    for space in VARIANT_SPACES[variant]:
        points = list(space.settings(128, 128, dtype, "cuda", 32))
        kept = [p for p in points if not any(constraint.broken(space, p) for constraint in CONSTRAINTS)]
        assert 0 < len(kept) < len(points)
        wanted = (default.chunk_size, default.solver, getattr(default, space.stage))
        assert wanted in {(point.chunk_size, point.solver, point.tile) for point in kept}
