"""What there is to try: families of calls, and the points of each stage's space for them, enumerated and never sampled."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import product

from ..kernels.config import LaunchConfig, Solver, Tile
from ..kernels.space import CONSTRAINTS, OP_STAGES, SPACES
from ..results.default import safe_default
from ..results.key import Key
from ..specs.gpus import Architecture


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Family:
    """Calls that share their kernels: op, rule, element type and head dimensions, of whatever length and width."""

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
        """What is launched where nothing better is known."""
        return LaunchConfig.parse(safe_default(self.dtype, self.K))

    def __str__(self) -> str:
        return f"{self.op} {self.rule} {self.dtype} K={self.K} V={self.V}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One stage with one chunk size, solver and tile."""

    family: Family
    stage: str
    chunk_size: int
    solver: Solver
    tile: Tile

    @property
    def config(self) -> LaunchConfig:
        """The configuration that has this tile in this stage and defaults elsewhere."""
        return LaunchConfig(chunk_size=self.chunk_size, solver=self.solver, **{self.stage: self.tile})

    @property
    def is_default(self) -> bool:
        """Whether it is part of the safe default, which everything is compared with."""
        return self.config == self.family.default

    @property
    def distance(self) -> int:
        """Doublings away from the safe default: what is near it is compiled first, in case a budget ends."""
        default, tile = self.family.default, self.tile
        base = getattr(default, self.stage)
        doublings = (
            (self.chunk_size, default.chunk_size),
            (tile.block, base.block),
            (tile.num_warps, base.num_warps),
            (tile.num_stages, base.num_stages),
        )
        far = sum(abs(here.bit_length() - there.bit_length()) for here, there in doublings)
        return far + (self.solver != default.solver)

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


def families(ops: Iterable[str], rules: Iterable[str], dtypes: Iterable[str], dims: Iterable[int]) -> list[Family]:
    """Every combination, with V = K, sorted."""
    return sorted(
        Family(op=op, rule=rule, dtype=dtype, K=size, V=size)
        for op, rule, dtype, size in product(ops, rules, dtypes, dims)
    )


def enumerate_points(family: Family, arch: Architecture) -> tuple[list[Point], list[StageCount]]:
    """The feasible points of a family, stage by stage, and the counts of what was left out."""
    points, counts = [], []
    for stage in OP_STAGES[family.op]:
        space, count = SPACES[stage], StageCount(family=family, stage=stage)
        for setting in space.settings(family.K, family.V, family.dtype, arch.backend, arch.warp):
            count.total += 1
            broken = next((constraint for constraint in CONSTRAINTS if constraint.broken(space, setting)), None)
            if broken:
                count.removed[broken.name] += 1
            else:
                points.append(
                    Point(
                        family=family,
                        stage=stage,
                        chunk_size=setting.chunk_size,
                        solver=setting.solver,
                        tile=setting.tile,
                    )
                )
        counts.append(count)
    return points, counts


def breadth_first(points: Iterable[Point]) -> list[Point]:
    """Nearest to the default first, so that a budget that ends early leaves every stage with its likeliest points."""
    return sorted(points, key=lambda point: (point.distance, point.family, point.stage, point.config.token))
