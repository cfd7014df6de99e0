"""What leaves after compiling: over-limit, duplicates, heavy spillers; and what must not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.autotune.compile.prune import HEAVY_SPILL, prune, too_large
from deltaproof.autotune.space.points import Point, enumerate_points
from deltaproof.specs.gpus import gpu
from deltaproof.verify.compile.compilation import Compilation
from tests.helpers.synthetic import FAMILY, compilation, compile_one

ARCH = gpu("h100").arch
POINTS = [point for point in enumerate_points(FAMILY, ARCH)[0] if point.stage == "states" and point.chunk_size == 64]
DEFAULT = next(point for point in POINTS if point.is_default)
ONE, OTHER = [point for point in POINTS if not point.is_default][:2]


def reasons(found: dict[Point, Compilation]) -> dict[Point, str]:
    return {point: left.reason for point, left in prune(found, ARCH).rejected.items()}


def test_what_did_not_compile_keeps_its_reason():
    failures = {ONE: Compilation(outcome="timeout", seconds=9.0), OTHER: Compilation(outcome="crash", seconds=0.0)}
    assert reasons(failures) == {ONE: "timeout", OTHER: "crash"}


def test_what_does_not_fit_leaves():
    assert reasons({ONE: compilation("one", shared=ARCH.shared_per_block + 1)}) == {ONE: "resources"}
    assert reasons({ONE: compilation("one", shared=ARCH.shared_per_block)}) == {}
    assert reasons({ONE: compilation("one", registers=255, threads=512)}) == {ONE: "resources"}


def test_of_the_same_machine_code_one_stays():
    left = prune({DEFAULT: compilation("same"), ONE: compilation("same"), OTHER: compilation("same")}, ARCH)
    assert list(left.survivors) == [DEFAULT]
    assert all(found.reason == "duplicate" and DEFAULT.config.token in found.detail for found in left.rejected.values())


def test_heavy_spillers_leave_where_another_tile_spills_less():
    heavy = compilation("heavy", stack=HEAVY_SPILL)
    assert reasons({ONE: heavy, OTHER: compilation("light")}) == {ONE: "spill"}
    assert reasons({ONE: heavy}) == {}, "the only one stays"
    assert reasons({DEFAULT: heavy, OTHER: compilation("light")}) == {}, "losses are stated against the default"


def test_losing_the_fast_tensor_cores_is_a_warning():
    left = prune({ONE: compilation("one", tensor_core="mma"), OTHER: compilation("other")}, ARCH)
    assert set(left.survivors) == {ONE, OTHER}
    assert set(left.warned) == {ONE}
    assert "wgmma" in left.warned[ONE]


@given(st.permutations(POINTS))
def test_the_order_of_arrival_does_not_matter(order: list[Point]):
    expected = prune({point: compile_one(point) for point in POINTS}, ARCH)
    found = prune({point: compile_one(point) for point in order}, ARCH)
    assert (found.survivors, found.rejected, found.warned) == (expected.survivors, expected.rejected, expected.warned)


@pytest.mark.parametrize(
    ("registers", "threads", "fits"), [(255, 256, True), (128, 512, True), (129, 512, False), (64, 1024, True)]
)
def test_registers_are_given_in_granules(registers: int, threads: int, fits: bool):
    assert (too_large(compilation("any", registers=registers, threads=threads), ARCH) is None) == fits
