"""Everything a launch may vary: variant, chunk size, solver precision, and per stage a tile, warps and pipeline depth."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Solver = Literal["ieee", "tf32x3", "tf32"]
Variant = Literal["split", "packed", "fused"]
"""How inference cuts its work into kernels; training is always cut into six stages."""


def variant_of(token: str) -> str:
    """The variant that the token of a configuration names: by text alone, since a traced call reads it."""
    return next((setting[8:] for setting in token.split(",") if setting.startswith("variant=")), "split")


def chunk_size_of(token: str) -> int:
    """The chunk size that the token of a configuration names: by text alone, since a traced call reads it."""
    return int(token.partition(",")[0].removeprefix("c"))


def group_of(token: str) -> int:
    """The chunks per group that the token of a configuration names, 0 for none: by text alone, too."""
    return next((int(setting[6:]) for setting in token.split(",") if setting.startswith("group=")), 0)


_ONLY = {"chunk_train": "chunk_train/staged", "recurrent": "recurrent/tokens"}
"""Ops that one kernel runs under any configuration."""


def kernel_of(op: str, token: str) -> str:
    """Name in `kernels.registry.KERNELS` of what runs `op` under the configuration of this token."""
    return _ONLY.get(op) or f"{op}/{'grouped' if group_of(token) else variant_of(token)}"


LONGEST_TOKEN = 400
LONGEST_GROUP = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One stage's launch: `block` columns (of K or V) per step, `num_warps` warps, `num_stages` pipeline stages."""

    block: int = 32
    num_warps: int = 8
    num_stages: int = 1

    def __post_init__(self) -> None:
        for name in ("block", "num_warps", "num_stages"):
            value = getattr(self, name)
            if value < 1 or (name != "num_stages" and value & (value - 1)):
                raise ValueError(
                    f"{name}={value}; accepted: {'1 or more' if name == 'num_stages' else 'a power of two'}"
                )
        if self.block < 16:
            raise ValueError(f"block={self.block}: tensor cores need at least 16 columns")

    @property
    def token(self) -> str:
        return f"{self.block}x{self.num_warps}x{self.num_stages}"


STAGES = ("scores", "maps", "states", "output", "score_grads", "state_grads", "input_grads")
"""Names of the stages, in the order in which they run: fields of a LaunchConfig."""


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
    """Compact text, e.g. `c64,states=64x4x2`: the chunk size, then whatever differs from the default."""

    def __post_init__(self) -> None:
        if self.variant not in ("split", "packed", "fused"):
            raise ValueError(f"variant={self.variant!r}; accepted: split, packed, fused")
        if self.chunk_size not in (16, 32, 64, 128):
            raise ValueError(f"chunk_size={self.chunk_size}; accepted: 16, 32, 64, 128")
        if self.group and (self.group & (self.group - 1) or not 0 < self.group <= LONGEST_GROUP):
            raise ValueError(f"group={self.group}; accepted: 0, or a power of two up to {LONGEST_GROUP}")
        if self.group and self.variant != "packed":
            raise ValueError(
                f"group={self.group} with variant={self.variant}; accepted: groups of the packed variant alone"
            )
        if self.solver not in ("ieee", "tf32x3", "tf32"):
            raise ValueError(f"solver={self.solver!r}; accepted: ieee, tf32x3, tf32")
        tiles = {name: getattr(self, name) for name in STAGES}
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
        """The same programs, over groups of no more than two chunks: few tokens then show what a group does."""
        return replace(self, group=min(self.group, 2)) if self.group > 2 else self

    @classmethod
    def parse(cls, token: str) -> LaunchConfig:
        """Read a `token` back. Raises ValueError for anything else."""
        if len(token) > LONGEST_TOKEN:
            raise ValueError(f"not a launch configuration: {token!r:.100}, of {len(token)} characters")
        chunk, *settings = token.split(",")
        try:
            values: dict[str, object] = {"chunk_size": int(chunk.removeprefix("c"))}
            for setting in settings:
                name, _, value = setting.partition("=")
                if name in ("variant", "solver"):
                    values[name] = value
                elif name == "group":
                    values[name] = int(value)
                elif name in STAGES:
                    block, warps, depth = map(int, value.split("x"))
                    values[name] = Tile(block=block, num_warps=warps, num_stages=depth)
                else:
                    raise ValueError(f"no setting {name!r}")
            return cls(**values)  # pyright: ignore[reportArgumentType]
        except ValueError as error:
            raise ValueError(
                f"not a launch configuration: {token!r} ({error}); expected e.g. 'c64,states=64x4x2'"
            ) from None
