"""Programs of one launch have no order: what would show it is found, and nothing else."""

import pytest
import torch
import triton
import triton.language as tl

from deltaproof.verify.interpreter import session


@triton.jit
def quarrel_kernel(x, o, FAULT: tl.constexpr, B: tl.constexpr):
    """o_i = 2 x_i by blocks; FAULT plants a race."""
    i = tl.program_id(0)
    at = i * B + tl.arange(0, B)
    if FAULT == "neighbour's tail":
        at = i * (B - 1) + tl.arange(0, B)
    if FAULT == "same bits":
        tl.store(o + tl.arange(0, B), tl.zeros([B], tl.float32) + 3.0)
    elif FAULT == "read before":
        v = tl.load(o + (i + 1) * B)
        tl.store(o + at, v + at)
    elif FAULT == "read after":
        tl.store(o + at, tl.load(x + at) * 2)
        if i > 0:
            tl.store(x + at, tl.load(o + at - B))
    elif FAULT == "atomic":
        tl.atomic_add(o + tl.arange(0, B), tl.load(x + at))
    else:
        tl.store(o + at, tl.load(x + at) * (i + 1))


def run(fault, programs=3, B=8):
    x, o = torch.arange(1.0, 1 + programs * B), torch.zeros((programs + 1) * B)
    with session(memory=True, races=True) as s:
        quarrel_kernel[(programs,)](x, o, fault, B)
    return s.faults


@pytest.mark.parametrize("fault", ["", "same bits", "atomic"])
def test_what_has_no_order_to_show_is_no_race(fault):
    assert not run(fault)


@pytest.mark.parametrize(
    ("fault", "kind", "count"),
    [("neighbour's tail", "store", 2), ("read before", "store", 2), ("read after", "load", 16)],
)
def test_races_are_found(fault, kind, count):
    (found,) = run(fault)
    assert (found.fault, found.kind, found.count) == ("race", kind, count)
    assert "another program of the same launch" in str(found)


@triton.jit
def sum_kernel(x, o, T: tl.constexpr):
    tl.store(o, tl.sum(tl.load(x + tl.arange(0, T)), 0))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int32])
def test_a_load_of_what_nothing_has_written_is_found(dtype):
    with session(memory=True) as s:
        x, o = torch.empty(16, dtype=dtype), torch.zeros(1, dtype=dtype)
        x[:13] = 1
        sum_kernel[(1,)](x, o, 16)
    (found,) = s.faults
    assert (found.fault, found.kind, found.count) == ("never written", "load", 3)


@triton.jit
def product_kernel(o, n):
    tl.store(o, n * n)


def test_integer_overflow_is_an_error_where_it_is_asked_for():
    o = torch.zeros(1, dtype=torch.int32)
    with session():
        product_kernel[(1,)](o, 70_000)
    with session(check_overflow=True), pytest.raises(Exception, match="overflow"):
        product_kernel[(1,)](o, 70_000)


def test_a_grid_that_no_gpu_takes_is_refused():
    o = torch.zeros(1, dtype=torch.int32)
    with session(), pytest.raises(ValueError, match="65536 programs along y"):
        product_kernel[(1, 65_536)](o, 3)


@triton.jit
def scratch_kernel(x, s, o, HOW: tl.constexpr, BARRIER: tl.constexpr, B: tl.constexpr):
    """x, doubled, by way of the scratch s; HOW says in which arrangement it is read back."""
    i, j = tl.arange(0, B)[:, None], tl.arange(0, B)[None, :]
    tile, at = i * B + j, tl.program_id(0) * B * B
    if HOW == "stored twice":
        tl.store(s + at + j * B + i, tl.zeros([B, B], tl.float32))
    if HOW == "by all":
        tl.store(s + at + 0 * tile, tl.zeros([B, B], tl.float32) + 1)
        tl.store(o + at + tile, tl.load(x + at + tile) * 2 + tl.load(s + at + 0 * tile) - 1)
    elif HOW == "of before":
        tl.store(o + at + tile, tl.load(x + at + tile) * tl.load(s + at + j * B + i))
    else:
        if BARRIER:
            tl.debug_barrier()
        tl.store(s + at + tile, tl.load(x + at + tile) * 2)
        if BARRIER:
            tl.debug_barrier()
        if HOW == "transposed":
            tl.store(o + at + j * B + i, tl.load(s + at + j * B + i))
        elif HOW == "row by row":
            for r in range(B):
                tl.store(o + at + r * B + tl.arange(0, B), tl.load(s + at + r * B + tl.arange(0, B)))
        elif HOW == "upside down":
            tl.store(o + at + tile, tl.load(s + at + (B - 1 - i) * B + j))
        else:
            tl.store(o + at + tile, tl.load(s + at + tile))


def through_scratch(how, *, barrier=False, warps=4, programs=2, B=4):
    x, s, o = torch.randn(programs, B, B), torch.full((programs, B, B), 2.0), torch.empty(programs, B, B)
    with session(memory=True, races=True) as run:
        scratch_kernel[(programs,)](x, s, o, how, barrier, B, num_warps=warps)
    return run.faults


@pytest.mark.parametrize("how", ["transposed", "row by row", "upside down", "stored twice"])
def test_what_another_thread_stored_needs_a_barrier(how):
    (found,) = through_scratch(how)
    assert (found.fault, found.kind) == ("no barrier", "store" if how == "stored twice" else "load")
    assert "no tl.debug_barrier()" in str(found)
    assert not through_scratch(how, barrier=True)
    assert not through_scratch(how, warps=1)


@pytest.mark.parametrize("how", ["same", "by all", "of before"])
def test_what_a_thread_stored_itself_needs_none(how):
    assert not through_scratch(how)
