"""The cost model: never more than a ranking, but one that must be sane."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from deltaproof.autotune.compile.prune import prune
from deltaproof.autotune.model.cost import estimate, occupancy
from deltaproof.autotune.model.ranking import RUNS, rank, sizes
from deltaproof.autotune.space.points import Family, enumerate_points
from deltaproof.kernels.configs.launch_config import Variant
from deltaproof.kernels.configs.space import GROUPS, OP_STAGES, op_stages
from deltaproof.kernels.launches.instructions import CLASSES
from deltaproof.results.schema.instructions import Instructions, Loop
from deltaproof.specs.gpus import gpu, gpus
from tests.helpers.synthetic import FAMILY, compilation, compile_one

H100 = gpu("h100")
TOKENS, HEADS = np.array([512, 4096, 32768]), np.array([16, 16, 16])
TRAIN = Family(op="chunk_train", rule="gdn2", dtype="bf16", K=128, V=128)


@pytest.mark.parametrize(
    ("shared", "registers", "threads", "programs"),
    [
        (0, 32, 1024, 2),
        (0, 255, 256, 1),
        (0, 128, 128, 4),
        (100_000, 32, 128, 2),
        (232_448, 32, 128, 1),
        (0, 16, 32, 32),
    ],
)
def test_occupancy_on_an_h100(shared: int, registers: int, threads: int, programs: int):
    assert occupancy(compilation("any", shared=shared, registers=registers, threads=threads), H100.arch) == programs


@pytest.mark.parametrize("slug", sorted(gpus()))
def test_estimates_are_finite_grow_with_length_and_with_spills(slug: str):
    target = gpu(slug)
    for point in enumerate_points(TRAIN, target.arch)[0][::7]:
        threads = target.arch.warp * point.tile.num_warps
        binary = replace(compile_one(point), shared=0, registers=64, threads=threads)
        times = estimate(point, binary, target, TOKENS, HEADS)
        assert np.isfinite(times).all()
        assert (np.diff(times) >= 0).all(), point
        assert times[-1] > times[0], point
        spilling = estimate(point, replace(binary, stack=4096), target, TOKENS, HEADS)
        assert (spilling >= times).all()


def counted(**straight: int) -> Instructions:
    """A program whose one loop prefetches a step ahead."""
    loop = Loop(depth=0, own={"fp32": 400, "tensor core": 32, "async copy": 8, "barrier": 2})
    return Instructions(straight={"integer": 200, "async copy": 8} | straight, loops=(loop,))


@pytest.mark.parametrize("name", CLASSES)
def test_no_instruction_is_free_and_what_is_in_a_loop_costs_by_the_step(name: str):
    for point in enumerate_points(TRAIN, H100.arch)[0][::13]:
        program = counted()
        more = replace(program, loops=(replace(program.loops[0], own={**program.loops[0].own, name: 20_000}),))
        times = [
            estimate(point, replace(compile_one(point), shared=0, registers=64, instructions=one), H100, TOKENS, HEADS)
            for one in (program, more)
        ]
        assert np.isfinite(times).all()
        assert (times[1] > times[0]).all(), point
        added = times[1] - times[0]
        assert added[-1] > added[0], "the longer the sequence, the more is issued"


def test_depth_is_what_the_binary_copies_ahead_whatever_was_asked_for():
    for point in enumerate_points(TRAIN, H100.arch)[0]:
        if point.stage != "states" or point.tile.num_stages == 1:
            continue
        flat = replace(counted(), straight={"integer": 200})
        flat = replace(flat, loops=(replace(flat.loops[0], own={"fp32": 400, "tensor core": 32, "global": 8}),))
        binary = replace(compile_one(point), shared=0, registers=64, instructions=flat)
        once = replace(point, tile=replace(point.tile, num_stages=1))
        asked, plain = (estimate(one, binary, H100, TOKENS, HEADS) for one in (point, once))
        assert np.array_equal(asked, plain)
        deep = replace(binary, instructions=counted())
        assert (estimate(point, deep, H100, TOKENS, HEADS) < estimate(once, deep, H100, TOKENS, HEADS)).all()


def test_a_faster_gpu_is_not_slower():
    for point in enumerate_points(TRAIN, H100.arch)[0][::11]:
        binary = replace(compile_one(point), shared=0, registers=64)
        slow, fast = (estimate(point, binary, gpu(name), TOKENS, HEADS) for name in ("h100-pcie", "h100-sxm"))
        assert (fast <= slow).all()


def test_a_program_that_cannot_be_launched_has_no_time():
    point = enumerate_points(FAMILY, H100.arch)[0][0]
    with pytest.raises(ValueError, match="cannot be launched"):
        estimate(point, compilation("big", shared=10**6), H100, TOKENS, HEADS)


def test_ranking_finds_the_best_of_the_whole_product_at_every_size():
    points = [point for point in enumerate_points(FAMILY, H100.arch)[0] if point.chunk_size in (32, 64)]
    kept = prune({point: compile_one(point) for point in points}, H100.arch).survivors
    few = rank(FAMILY, kept, H100)
    assert few[0].config.token == "c64"
    tokens, heads = (np.array(column) for column in zip(*sizes(), strict=True))
    best = np.full(len(sizes()), np.inf)
    cuts: list[tuple[Variant, int]] = [(variant, 0) for variant in OP_STAGES[FAMILY.op]]
    cuts += [("packed", group) for group in GROUPS]
    for (variant, group), chunk in product(cuts, (32, 64)):
        stages = [
            [
                estimate(point, binary, H100, tokens, heads, group) * RUNS[FAMILY.op].get(space.stage, 1)
                for point, binary in kept.items()
                if (point.stage, point.chunk_size) == (space.stage, chunk)
            ]
            for space in op_stages(FAMILY.op, variant, grouped=bool(group))
        ]
        if all(stages):
            best = np.minimum(best, sum(np.min(times, axis=0) for times in stages))
    found = np.min([[ranked.milliseconds[size] for size in sizes()] for ranked in few], axis=0)
    assert (found <= best * 1.0201).all(), "within what counts as enough"
    assert found == pytest.approx(best, rel=0.021)


def test_ranking_needs_every_stage():
    kept = {point: compile_one(point) for point in enumerate_points(FAMILY, H100.arch)[0] if point.stage == "states"}
    assert rank(FAMILY, kept, H100) == []
