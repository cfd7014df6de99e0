"""Everything a launch may vary: variant, chunk size, solver precision, and per stage a tile, warps and pipeline depth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from ...results.schema.token import (
    CHUNK_SIZES,
    GROUPS,
    LARGEST,
    SOLVERS,
    STAGES,
    VARIANTS,
    fault,
    setting_of,
    split,
    variant_of,
)

Solver = Literal["ieee", "tf32x3", "tf32"]
Variant = Literal["split", "packed", "fused"]
"""How inference cuts its work into kernels; training has one way, `stages.chunkwise`."""


_ONLY = {"chunk_train": "chunk_train/staged", "recurrent": "recurrent/tokens"}
"""Ops that one kernel runs under any configuration."""


def kernel_of(op: str, token: str) -> str:
    """Name in `kernels.registry.KERNELS` of the kernel that runs `op` under the configuration of this token."""
    return _ONLY.get(op) or f"{op}/{'grouped' if setting_of(token, 'group') else variant_of(token)}"


_CHOICES = {"variant": VARIANTS, "chunk_size": CHUNK_SIZES, "group": (0, *GROUPS), "solver": SOLVERS}
LONGEST_TOKEN = 400


def padded(size: int) -> int:
    """Columns of a tile that holds `size` of them: a power of two that tensor cores take."""
    return max(16, 1 << (size - 1).bit_length())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One stage's launch: `block` columns (of K or V) per step, `num_warps` warps, `num_stages` pipeline stages."""

    block: int = 32
    num_warps: int = 8
    num_stages: int = 1

    def __post_init__(self) -> None:
        for name in ("block", "num_warps", "num_stages"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= LARGEST or (name != "num_stages" and value & (value - 1)):
                accepted = "1 or more" if name == "num_stages" else "a power of two"
                raise ValueError(f"{name}={value!a:.60}; accepted: {accepted}, at most {LARGEST}")
        if self.block < 16:
            raise ValueError(f"block={self.block}: tensor cores need at least 16 columns")

    @property
    def token(self) -> str:
        return f"{self.block}x{self.num_warps}x{self.num_stages}"


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchConfig:
    """One point of the tuning space.

    variant: of inference; a call that names its variant does not ask for it. chunk_size: tokens per chunk, 16 to 128.
    group: of the packed variant, chunks per group where sequences are split into groups that are walked at once; 0 for none.
    solver: precision of the products that invert I + T.
    scores, maps, states, output: forward stages. score_grads, state_grads, input_grads: backward stages.
    `block` tiles K in scores, output and input_grads' K loop, and V in maps, states, state_grads and score_grads.
    The packed variant reads scores and states, and maps where it has groups; the fused one reads states, and of scores the block.
    """

    variant: Variant = "split"
    chunk_size: int = 64
    group: int = 0
    solver: Solver = "ieee"
    scores: Tile = Tile()
    maps: Tile = Tile()
    states: Tile = Tile()
    output: Tile = Tile()
    score_grads: Tile = Tile()
    state_grads: Tile = Tile()
    input_grads: Tile = Tile()

    token: str = field(init=False, repr=False, compare=False)
    """Compact text, e.g. `c64,states=64x4x2`: the chunk size, then the fields that differ from the default."""

    def __post_init__(self) -> None:
        for name, accepted in _CHOICES.items():
            value = getattr(self, name)
            if type(value) is not type(accepted[0]) or value not in accepted:
                raise ValueError(f"{name}={value!a:.60}; accepted: {', '.join(map(str, accepted))}")
        if self.group and self.variant != "packed":
            raise ValueError(
                f"group={self.group} with variant={self.variant}; accepted: groups of the packed variant alone"
            )
        tiles = {name: getattr(self, name) for name in STAGES}
        for name, tile in tiles.items():
            if not isinstance(tile, Tile):
                raise TypeError(f"{name}={tile!a:.60}; accepted: a Tile")
        parts = [f"c{self.chunk_size}", "" if self.variant == "split" else f"variant={self.variant}"]
        parts += [f"group={self.group}" if self.group else "", "" if self.solver == "ieee" else f"solver={self.solver}"]
        parts += [f"{name}={tile.token}" for name, tile in tiles.items() if tile != Tile()]
        # Stored, so that a traced call only reads a string.
        object.__setattr__(self, "token", ",".join(filter(None, parts)))

    @property
    def group_tokens(self) -> int:
        """Tokens per group; 0 where sequences are not split."""
        return self.chunk_size * self.group

    @property
    def run_tokens(self) -> int:
        """Tokens that follow one another in one program before anything begins anew: of a group, else of a chunk."""
        return self.group_tokens or self.chunk_size

    @property
    def shortest(self) -> LaunchConfig:
        """The same programs, over groups of no more than two chunks: few tokens then exercise a group."""
        return replace(self, group=min(self.group, 2)) if self.group > 2 else self

    @classmethod
    def parse(cls, token: str) -> LaunchConfig:
        """Read a `token` back. Raises ValueError for anything else."""
        if not isinstance(token, str):
            raise TypeError(
                f"token is of type {type(token).__name__}; accepted: a launch configuration, e.g. 'c64,states=64x4x2'"
            )
        if len(token) > LONGEST_TOKEN:
            raise ValueError(f"not the token of a launch configuration: {token!r:.100}, of {len(token)} characters")
        if wrong := fault(token):
            raise ValueError(
                f"not the token of a launch configuration: {token!r} ({wrong}); expected e.g. 'c64,states=64x4x2'"
            )
        chunk, settings = split(token)
        values: dict[str, Any] = {"chunk_size": int(chunk.removeprefix("c"))}
        for name, value in settings.items():
            if name in STAGES:
                block, warps, depth = map(int, value.split("x"))
                values[name] = Tile(block=block, num_warps=warps, num_stages=depth)
            else:
                values[name] = int(value) if name == "group" else value
        return cls(**values)
