"""The space: enumerated, never empty where the default is, and left out only for stated reasons."""

from __future__ import annotations

from itertools import product
from typing import Any, get_args

import pytest

from deltaproof.autotune.space.points import Point, breadth_first, config_of, enumerate_points, families, points_of
from deltaproof.kernels.configs.launch_config import STAGES, LaunchConfig, Tile, Variant
from deltaproof.kernels.configs.space import (
    CONSTRAINTS,
    OP_STAGES,
    SPACES,
    op_stages,
    op_tiles,
    stage_names,
    tuned_groups,
    tuned_variants,
)
from deltaproof.specs.gpus import gpu, gpus

EVERY = families(OP_STAGES, ("gdn2", "gdn"), ("bf16", "fp32"), (32, 64, 100, 256))


def test_spaces_cover_what_a_launch_configuration_holds():
    assert {space.tile for space in SPACES.values() if space.tile} == set(STAGES)
    assert {name for op in OP_STAGES for name in stage_names(op)} == set(SPACES)
    assert set(OP_STAGES["chunk_fwd"]) == set(get_args(Variant))


@pytest.mark.parametrize("slug", ["h100-sxm", "mi300x"])
def test_every_combination_is_a_point_or_counted_once(slug: str):
    for family in EVERY:
        points, counts = enumerate_points(family, gpu(slug).arch)
        assert len(points) == len(set(points)) == sum(count.left for count in counts)
        assert [count.stage for count in counts] == [
            space.stage
            for variant in tuned_variants(family.op, family.dtype)
            for space in op_stages(family.op, variant, grouped=True)
        ]
        assert all(count.left for count in counts)
        for count in counts:
            assert set(count.removed) <= {constraint.name for constraint in CONSTRAINTS}


@pytest.mark.parametrize("slug", sorted(gpus()))
def test_the_safe_default_is_always_tried_first(slug: str):
    for family in EVERY:
        points, _ = enumerate_points(family, gpu(slug).arch)
        default = [point for point in points if point.is_default]
        tuned = family.default.variant in tuned_variants(family.op, family.dtype)
        if tuned and max(getattr(family.default, tile).block for tile in op_tiles(family.op)) > family.K:
            continue  # a block wider than the head is launched as one of its width, and is no point of its own
        assert [point.stage for point in default] == list(OP_STAGES[family.op][family.default.variant]) * tuned, family
        assert set(breadth_first(points)[: len(default)]) == set(default)


def test_a_point_stands_for_one_launch_configuration():
    points = enumerate_points(EVERY[0], gpu("h100").arch)[0]
    for point in points:
        assert LaunchConfig.parse(point.config.token) == point.config
        assert isinstance(point, Point)
        assert SPACES[point.stage].tile_of(point.config) == point.tile
        assert (point.config.variant, point.config.chunk_size) == (point.variant, point.chunk_size)


def test_a_configuration_is_made_of_its_points():
    for family in EVERY:
        for variant, group in product(OP_STAGES[family.op], tuned_groups(family.op)):
            if group and variant != "packed":
                continue
            names = [tile for space in op_stages(family.op, variant, grouped=bool(group)) if (tile := space.tile)]
            tiles: dict[str, Any] = dict.fromkeys(names, Tile(block=64, num_warps=4))
            config = LaunchConfig(variant=variant, chunk_size=32, group=group, **tiles)
            assert config_of(points_of(family, config), group) == config
