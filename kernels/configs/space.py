"""The tuning space of every kernel: the parameters that a launch may vary, and the combinations left out, each with its reason.

One idea: a point is left out here only for a reason that can be read off its numbers. Whether the rest fits, spills or is the
same program as another is for the compiler to say.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Literal

from ...specs.gpus import REGISTERS_PER_THREAD
from .launch_config import LaunchConfig, Tile, Variant, padded

REGISTER_CHUNKS = (16, 32, 64)
"""Chunks whose rows, sixteen of them in the registers of a thread, leave room for the results."""
LEAST_STEPS_TO_PIPELINE = 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One point of a stage's space: head dimensions, element type, architecture, and the parameters that a launch varies.

    backend: "cuda" or "hip". warp: threads per warp.
    """

    K: int
    V: int
    dtype: str
    backend: str
    warp: int
    chunk_size: int
    tile: Tile


@dataclass(frozen=True, slots=True, kw_only=True)
class StageSpace:
    """The parameters that one stage varies.

    stage: name of its kernel, without `_kernel`. tile: its field in LaunchConfig, "" for a stage that is launched in one way.
    variant: whose stage it is.
    live: fp32 numbers that one program holds at once, from the tiles in its kernel.
    cut: the dimensions that `block` cuts.
    steps: trips of the loop that `num_stages` pipelines; None where only the call knows. Depths beyond 2 are for the walk whose
    loads wait for nothing: the others ask the table of chunks first, or make their operands on the way, and the loops of the
    other stages are of few trips.
    """

    stage: str
    tile: str
    live: Callable[[Setting], int]
    cut: Literal["K", "V", "KV"]
    steps: Callable[[Setting], int | None]
    variant: Variant = "split"
    chunk_sizes: tuple[int, ...] = REGISTER_CHUNKS
    blocks: tuple[int, ...] = (32, 64, 128)
    num_warps: tuple[int, ...] = (2, 4, 8)
    num_stages: tuple[int, ...] = (1, 2)

    @property
    def only(self) -> Tile:
        """Its first tile, or its only one."""
        return Tile(block=self.blocks[0], num_warps=self.num_warps[0], num_stages=self.num_stages[0])

    def tile_of(self, config: LaunchConfig) -> Tile:
        return getattr(config, self.tile) if self.tile else self.only

    def settings(self, K: int, V: int, dtype: str, backend: str, warp: int) -> Iterator[Setting]:
        """Every combination, infeasible ones included, in a fixed order."""
        for chunk_size, block, warps, depth in product(self.chunk_sizes, self.blocks, self.num_warps, self.num_stages):
            tile = Tile(block=block, num_warps=warps, num_stages=depth)
            yield Setting(K=K, V=V, dtype=dtype, backend=backend, warp=warp, chunk_size=chunk_size, tile=tile)


@dataclass(frozen=True, slots=True, kw_only=True)
class Constraint:
    """A reason to leave points out. broken: whether a setting of a stage is such a point."""

    name: str
    reason: str
    broken: Callable[[StageSpace, Setting], bool]


def _block(size: int, setting: Setting) -> int:
    return min(setting.tile.block, padded(size))


def _trips(size: int, setting: Setting) -> int:
    return -(-size // setting.tile.block)


# Tiles that the kernels hold in registers at once, in fp32 numbers: C rows, BK or BV columns, KP = all of K.


def _scores(s: Setting) -> int:
    # The inverse holds T, A, the joint block and their product; the loop before it two sums, three tiles of K and their decays.
    return max(4 * s.chunk_size**2, 2 * s.chunk_size**2 + 4 * s.chunk_size * _block(s.K, s))


def _states(s: Setting) -> int:
    # The state and one operand over all of K; the rest is consumed as it comes.
    return padded(s.K) * _block(s.V, s) + s.chunk_size * padded(s.K)


def _output(s: Setting) -> int:
    return s.chunk_size * (_block(s.V, s) + 2 * _block(s.K, s))


def _score_grads(s: Setting) -> int:
    return 2 * s.chunk_size**2 + 2 * s.chunk_size * _block(s.V, s)


def _input_grads(s: Setting) -> int:
    # Four gradients, the terms of three of them that come from the state, queries, erase keys, keys, and the factors to both
    # ends.
    return 12 * s.chunk_size * _block(s.K, s)


def _packed_scores(s: Setting) -> int:
    # Decayed queries, erase keys and keys of one tile of K, the keys of all of it for later, scores, T and a product of theirs.
    return 3 * s.chunk_size * _block(s.K, s) + s.chunk_size * padded(s.K) // 2 + 2 * s.chunk_size**2


def _packed_walk(s: Setting) -> int:
    # The state, the writes and the outputs; operands come from shared memory.
    return (padded(s.K) + 2 * s.chunk_size) * _block(s.V, s)


def _group_maps(s: Setting) -> int:
    return (padded(s.K) + s.chunk_size) * _block(s.V, s)


def _fused(s: Setting) -> int:
    # The state stays while the inverse holds T, A and the two halves of an operand.
    return padded(s.K) * _block(s.V, s) + 4 * s.chunk_size**2


JOINED_COLUMNS = 8
"""Of the state, in a program that takes it from group to group: few, so that there are programs."""
JOINED_ELEMENTS = 4096
"""Of M, that it multiplies at once: three times as many lie in shared memory, also in the smallest."""
WALK = (16, 32, 64, 128)
"""Walks are short of programs where there are few heads: narrow blocks make more of them."""

SPACES: dict[str, StageSpace] = {
    space.stage: space
    for space in (
        StageSpace(
            stage="scores",
            tile="scores",
            live=_scores,
            cut="K",
            steps=lambda s: _trips(s.K, s),
            num_warps=(1, 2, 4, 8),
        ),
        StageSpace(stage="states", tile="states", live=_states, cut="V", steps=lambda s: None, blocks=WALK),
        StageSpace(stage="output", tile="output", live=_output, cut="KV", steps=lambda s: _trips(s.K, s)),
        StageSpace(
            stage="state_grads",
            tile="state_grads",
            live=_states,
            cut="V",
            steps=lambda s: None,
            blocks=WALK,
        ),
        StageSpace(
            stage="score_grads",
            tile="score_grads",
            live=_score_grads,
            cut="V",
            steps=lambda s: _trips(s.V, s),
        ),
        StageSpace(
            stage="input_grads",
            tile="input_grads",
            live=_input_grads,
            cut="KV",
            steps=lambda s: _trips(s.V, s),
            num_warps=(1, 2, 4, 8),
        ),
        # The other variants of inference.
        StageSpace(
            stage="packed_scores",
            variant="packed",
            tile="scores",
            live=_packed_scores,
            cut="K",
            steps=lambda s: 1,  # its loops are unrolled
            chunk_sizes=(32, 64),
            blocks=(32, 64, 128),
            num_warps=(1, 2, 4, 8),
            num_stages=(1,),
        ),
        StageSpace(
            stage="packed_walk",
            variant="packed",
            tile="states",
            live=_packed_walk,
            cut="V",
            steps=lambda s: None,
            chunk_sizes=(32, 64),
            blocks=WALK,
            num_warps=(4, 8),
            num_stages=(1, 2, 3, 4),
        ),
        # The further launches of a call in groups of chunks.
        StageSpace(
            stage="group_bounds",
            variant="packed",
            tile="",
            live=lambda s: 0,
            cut="V",
            steps=lambda s: 1,
            chunk_sizes=(32, 64),
            blocks=(16,),
            num_warps=(1,),
            num_stages=(1,),
        ),
        StageSpace(
            stage="group_maps",
            variant="packed",
            tile="maps",
            live=_group_maps,
            cut="V",
            steps=lambda s: None,
            chunk_sizes=(32, 64),
            blocks=WALK,
            num_warps=(4, 8),
        ),
        StageSpace(
            stage="group_starts",
            variant="packed",
            tile="",
            live=lambda s: padded(s.K) * JOINED_COLUMNS,
            cut="V",
            steps=lambda s: None,
            chunk_sizes=(32, 64),
            blocks=(16,),
            num_warps=(4,),
            num_stages=(3,),
        ),
        # Beyond 64 rows the scores of a chunk and the state do not fit beside each other.
        StageSpace(
            stage="fused",
            variant="fused",
            tile="states",
            live=_fused,
            cut="V",
            steps=lambda s: None,
            blocks=(32, 64, 128),
            num_warps=(4, 8),
        ),
    )
}
"""The stages by name."""

OP_STAGES: dict[str, dict[Variant, tuple[str, ...]]] = {
    "chunk_fwd": {
        "split": ("scores", "states"),
        "packed": ("packed_scores", "packed_walk"),
        "fused": ("fused",),
    },
    "chunk_train": {"split": ("scores", "states", "output", "state_grads", "score_grads", "input_grads")},
}
"""The stages that each op tunes, by variant, in the order in which they run."""


GROUPED = ("packed_scores", "group_bounds", "group_maps", "group_starts", "packed_walk")
"""Those of inference in groups of chunks."""
GROUPS = (32, 64, 128, 256)
"""Chunks per group that are looked at: shorter ones leave more for the serial launch than the others save."""


def tuned_groups(op: str) -> tuple[int, ...]:
    """The sizes of groups that a tuner looks at, 0 for none among them."""
    return (0, *GROUPS) if op == "chunk_fwd" else (0,)


def tuned_variants(op: str, dtype: str) -> tuple[Variant, ...]:
    """The variants that a tuner looks at. In 16 bits `packed` issues a fraction of the instructions of the others, for any tiles:
    `make instructions` counts them."""
    return ("packed",) if op == "chunk_fwd" and dtype != "fp32" else tuple(OP_STAGES[op])


def op_stages(op: str, variant: Variant, *, grouped: bool = False) -> tuple[StageSpace, ...]:
    """The stages that an op runs under a configuration of this variant, in order; training has but one."""
    variants = OP_STAGES[op]
    names = GROUPED if grouped and variant == "packed" else variants.get(variant, variants["split"])
    return tuple(SPACES[name] for name in names)


def stage_names(op: str) -> tuple[str, ...]:
    """All stages of an op, over all variants."""
    grouped = GROUPED if "packed" in OP_STAGES[op] else ()
    return tuple(dict.fromkeys(name for stages in (*OP_STAGES[op].values(), grouped) for name in stages))


def op_tiles(op: str) -> tuple[str, ...]:
    """The fields of a configuration that hold the tiles of an op's stages, over all variants."""
    return tuple(dict.fromkeys(tile for name in stage_names(op) if (tile := SPACES[name].tile)))


def _wide(space: StageSpace, s: Setting) -> bool:
    most = max(padded(size) for name, size in (("K", s.K), ("V", s.V)) if name in space.cut)
    return any(most <= block < s.tile.block for block in space.blocks)


def _nothing_to_pipeline(space: StageSpace, s: Setting) -> bool:
    steps = space.steps(s)
    return s.tile.num_stages > 1 and steps is not None and steps < LEAST_STEPS_TO_PIPELINE


def _idle_warps(space: StageSpace, s: Setting) -> bool:
    return s.tile.num_warps * 16 * 8 > s.chunk_size * max(s.chunk_size, s.tile.block)


def _overflows(space: StageSpace, s: Setting) -> bool:
    return space.live(s) > REGISTERS_PER_THREAD * s.warp * s.tile.num_warps


def _whole_operands(space: StageSpace, s: Setting) -> bool:
    # A thread owns a square of C^2 / threads results and reads that many rows and columns, all C long.
    held = 2 * s.chunk_size**2 / (s.warp * s.tile.num_warps) ** 0.5
    return space.tile == "scores" and s.dtype == "fp32" and s.backend == "cuda" and held > 4 * REGISTERS_PER_THREAD


def _too_many_threads(space: StageSpace, s: Setting) -> bool:
    # Sixteen wavefronts of 64 are the most that fit; 32 warps of 32 are never tried.
    return s.tile.num_warps * s.warp > 1024


CONSTRAINTS = (
    Constraint(name="threads", reason="a program has at most 1024 threads", broken=_too_many_threads),
    Constraint(
        name="block",
        reason="a narrower block holds the whole head dimension already, and is the same program",
        broken=_wide,
    ),
    Constraint(name="pipeline", reason="a loop of one trip has nothing to pipeline", broken=_nothing_to_pipeline),
    Constraint(
        name="warps",
        reason="a warp's share of the chunk's products is less than one 16 x 8 fragment",
        broken=_idle_warps,
    ),
    Constraint(
        name="operands",
        reason="NVIDIA's fp32 products run on multiply-adds and hold whole rows and columns: four times the registers there are",
        broken=_whole_operands,
    ),
    Constraint(
        name="registers",
        reason=f"the tiles that must live at once exceed {REGISTERS_PER_THREAD} registers per thread",
        broken=_overflows,
    ),
)
"""In the order in which they are asked: a point counts for the first that removes it."""
