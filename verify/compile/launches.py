"""The launches of every Triton kernel by its name, with every option that makes another program of it.

Kernels are imported inside the functions: they must see a process that is not one for Triton's interpreter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from .plan import FIRST_STAGE, Piece

if TYPE_CHECKING:
    from ...kernels.launches.compile import Launch
    from ...kernels.launches.record import Sizes


def choices_of(piece: Piece) -> list[str]:
    """Of each launch of somebody else's call, its configuration among those that an autotuner is offered, "" where there is no
    choice; none of ours."""
    if not piece.subject.foreign:
        return []
    from .foreign import noted

    return [choice for _, choice in noted(piece)]


def grids_of(piece: Piece) -> list[tuple[int, ...]]:
    """The grids of the largest call: of our kernels, a million tokens in ten thousand sequences, with more heads than any model
    has, since no axis may overflow."""
    from ...kernels.launches.record import Sizes

    largest = None if piece.subject.foreign else Sizes(tokens=2**20, heads=1024, sequences=10_000)
    return [launch.grid for launch in launches_of(piece, largest)]


def launches_of(piece: Piece, sizes: Sizes | None = None) -> list[Launch]:
    """The launches of a call of a kernel, recorded on tensors that hold nothing. Raises ValueError for a kernel without."""
    if piece.subject.foreign:
        from .foreign import noted

        return [launch for launch, _ in noted(piece)]
    from ...kernels.configs.launch_config import LaunchConfig, Tile
    from ...kernels.decoding import TILE
    from ...kernels.launches.record import (
        RECORDED,
        decode_launches,
        first_stage_launches,
        inference_launches,
        op_launches,
    )
    from ...specs.rule import RULES

    subject, sizes = piece.subject, sizes or RECORDED
    rule, config = RULES[subject.rule], LaunchConfig.parse(piece.config)
    call = (rule, subject.dtype, subject.K, subject.V)
    op, _, variant = subject.kernel.partition("/")
    if subject.kernel == FIRST_STAGE:
        return first_stage_launches(rule, subject.dtype, subject.K, sizes)  # pyright: ignore[reportArgumentType]
    if variant in ("staged", "split", "tokens"):
        # With states and sequences, and without either: the assembler has gone wrong on the second alone.
        return [
            launch
            for bare in (False, True)
            for launch in op_launches(op, *call, config, sizes, bare=bare)  # pyright: ignore[reportArgumentType]
        ]
    # These fuse normalisation and the gate's activation into their one kernel, so that each has two programs.
    if variant in ("fused", "packed", "grouped"):
        variant = "packed" if variant == "grouped" else variant
        return [
            launch
            for fused in (False, True)
            for launch in inference_launches(variant, *call, config, normalise=fused, raw=fused, sizes=sizes)  # pyright: ignore[reportArgumentType]
        ]
    if variant in ("pool", "pool_v_first"):
        tile = TILE if config.states == Tile() else config.states
        return [
            launch
            for raw in (False, True)
            for launch in decode_launches(*call, tile, v_first=variant == "pool_v_first", raw=raw, sizes=sizes)  # pyright: ignore[reportArgumentType]
        ]
    raise ValueError(
        f"nothing is known of the launches of {subject.kernel!r}; verify/compile/launches.py lists those that are"
    )
