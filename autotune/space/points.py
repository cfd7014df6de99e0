"""The space to try: families of calls, and the points of each stage's space for them, enumerated and never sampled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from ...kernels.configs.launch_config import LaunchConfig, Tile, Variant
from ...kernels.configs.space import CONSTRAINTS, SPACES, op_stages, tuned_variants
from ...results.schema.default import default_config
from ...results.schema.key import Key
from ...results.schema.record import Compiled
from ...specs.gpus import Architecture


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Family:
    """Calls that share their kernels: op, rule, element type and head dimensions, of any length and width."""

    op: str
    rule: str
    dtype: str
    K: int
    V: int

    def key(self, tokens: int = 0, heads: int = 0) -> Key:
        """The family as a key of records and tables; buckets of 0 mean all sizes."""
        return Key(op=self.op, rule=self.rule, dtype=self.dtype, K=self.K, V=self.V, tokens=tokens, heads=heads)

    @property
    def default(self) -> LaunchConfig:
        """The configuration that is launched where no better one is known."""
        return LaunchConfig.parse(default_config(self.op, self.dtype, self.K))

    def __str__(self) -> str:
        return f"{self.op} {self.rule} {self.dtype} K={self.K} V={self.V}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One stage with one chunk size and tile."""

    family: Family
    stage: str
    chunk_size: int
    tile: Tile

    @property
    def variant(self) -> Variant:
        """The variant that the stage is of."""
        return SPACES[self.stage].variant

    @property
    def config(self) -> LaunchConfig:
        """The configuration that has this tile in this stage and defaults elsewhere."""
        field = SPACES[self.stage].tile
        tiles = {field: self.tile} if field else {}
        return LaunchConfig(variant=self.variant, chunk_size=self.chunk_size, **tiles)  # pyright: ignore[reportArgumentType]

    @property
    def inversion(self) -> str:
        """Precision of the products that invert I + T."""
        return "ieee" if self.family.dtype == "fp32" else "bf16x3"

    @property
    def is_default(self) -> bool:
        """Whether it is part of the safe default, which everything is compared with."""
        return self in points_of(self.family, self.family.default)

    @property
    def distance(self) -> int:
        """Doublings away from the safe default: the nearest points are compiled first, in case a budget ends."""
        default, tile, space = self.family.default, self.tile, SPACES[self.stage]
        base = space.tile_of(default)
        doublings = (
            (self.chunk_size, default.chunk_size),
            (tile.block, base.block),
            (tile.num_warps, base.num_warps),
            (tile.num_stages, base.num_stages),
        )
        far = sum(abs(here.bit_length() - there.bit_length()) for here, there in doublings)
        return far + (space not in op_stages(self.family.op, default.variant, grouped=bool(default.group)))

    def __str__(self) -> str:
        return f"{self.family} {self.stage} {self.config.token}"


@dataclass(slots=True, kw_only=True)
class StageCount:
    """How many combinations a stage of a family has, and how many each constraint removed."""

    family: Family
    stage: str
    total: int = 0
    removed: Counter[str] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        return self.total - self.removed.total()


def family_of(key: Key) -> Family:
    """The family of a key of any size."""
    return Family(op=key.op, rule=key.rule, dtype=key.dtype, K=key.K, V=key.V)


def point_of(record: Compiled) -> Point:
    """The point that a record of a compilation is about."""
    config = LaunchConfig.parse(record.config)
    return Point(
        family=family_of(record.key), stage=record.stage, chunk_size=config.chunk_size,
        tile=SPACES[record.stage].tile_of(config),
    )  # fmt: skip


def families(ops: Iterable[str], rules: Iterable[str], dtypes: Iterable[str], dims: Iterable[int]) -> list[Family]:
    """Every combination, with V = K, sorted."""
    return sorted(
        Family(op=op, rule=rule, dtype=dtype, K=size, V=size)
        for op, rule, dtype, size in product(ops, rules, dtypes, dims)
    )


def enumerate_points(family: Family, arch: Architecture) -> tuple[list[Point], list[StageCount]]:
    """The feasible points of a family, stage by stage, and the counts of those left out."""
    points, counts = [], []
    for space in (
        space
        for variant in tuned_variants(family.op, family.dtype)
        for space in op_stages(family.op, variant, grouped=True)
    ):
        count = StageCount(family=family, stage=space.stage)
        for setting in space.settings(family.K, family.V, family.dtype, arch.backend, arch.warp):
            count.total += 1
            broken = next((constraint for constraint in CONSTRAINTS if constraint.broken(space, setting)), None)
            if broken:
                count.removed[broken.name] += 1
            else:
                points.append(
                    Point(
                        family=family,
                        stage=space.stage,
                        chunk_size=setting.chunk_size,
                        tile=setting.tile,
                    )
                )
        counts.append(count)
    return points, counts


def points_of(family: Family, config: LaunchConfig) -> list[Point]:
    """The points that a configuration is made of, in the order in which they run."""
    return [
        Point(
            family=family,
            stage=space.stage,
            chunk_size=config.chunk_size,
            tile=space.tile_of(config),
        )
        for space in op_stages(family.op, config.variant, grouped=bool(config.group))
    ]


def config_of(points: Iterable[Point], group: int = 0) -> LaunchConfig:
    """The configuration that is made of these points, whose variant and chunk size are one."""
    some = list(points)
    tiles: dict[str, Tile] = {field: point.tile for point in some if (field := SPACES[point.stage].tile)}
    return LaunchConfig(variant=some[0].variant, chunk_size=some[0].chunk_size, group=group, **tiles)  # pyright: ignore[reportArgumentType]


def breadth_first(points: Iterable[Point]) -> list[Point]:
    """Nearest to the default first, so that a budget that ends early leaves every stage with its likeliest points."""
    return sorted(points, key=lambda point: (point.distance, point.family, point.stage, point.config.token))
