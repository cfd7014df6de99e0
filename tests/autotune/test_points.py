"""The space: enumerated, never empty where the default is, and left out only for stated reasons."""

from __future__ import annotations

import pytest

from deltaproof.autotune.points import Point, breadth_first, enumerate_points, families
from deltaproof.kernels.config import STAGES, LaunchConfig
from deltaproof.kernels.space import CONSTRAINTS, OP_STAGES, SPACES
from deltaproof.specs.gpus import gpu, gpus

EVERY = families(OP_STAGES, ("gdn2", "gdn"), ("bf16", "fp32"), (32, 64, 100, 256))


def test_spaces_cover_the_stages_of_a_launch_configuration():
    assert set(SPACES) == set(STAGES)


@pytest.mark.parametrize("slug", ["h100-sxm", "mi300x"])
def test_every_combination_is_a_point_or_counted_once(slug: str):
    for family in EVERY:
        points, counts = enumerate_points(family, gpu(slug).arch)
        assert len(points) == len(set(points)) == sum(count.left for count in counts)
        assert {count.stage for count in counts} == set(OP_STAGES[family.op])
        for count in counts:
            assert set(count.removed) <= {constraint.name for constraint in CONSTRAINTS}


@pytest.mark.parametrize("slug", sorted(gpus()))
def test_the_safe_default_is_always_tried_first(slug: str):
    for family in EVERY:
        points, _ = enumerate_points(family, gpu(slug).arch)
        default = [point for point in points if point.is_default]
        assert [point.stage for point in default] == list(OP_STAGES[family.op]), family
        assert set(breadth_first(points)[: len(default)]) == set(default)


def test_precision_below_the_contract_is_never_tried():
    for family in EVERY:
        solvers = {point.solver for point in enumerate_points(family, gpu("h100").arch)[0]}
        assert "tf32" not in solvers
        assert family.dtype != "fp32" or solvers == {"ieee"}


def test_a_point_stands_for_one_launch_configuration():
    points = enumerate_points(EVERY[0], gpu("h100").arch)[0]
    for point in points:
        assert LaunchConfig.parse(point.config.token) == point.config
        assert isinstance(point, Point)
        assert getattr(point.config, point.stage) == point.tile
