"""Bytes counted in the interpreter are those that a kernel touches: each once, however often it is asked for."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from deltaproof.verify.interpreter import session
from deltaproof.verify.interpreter.addresses.traffic import Counting, TorchTraffic


@triton.jit
def twice_kernel(x, y, size, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    first = tl.load(x + at, mask=at < size, other=0.0)
    again = tl.load(x + at, mask=at < size, other=0.0)
    head = tl.load(x)
    tl.store(y + at, first + again + head, mask=at < size)


@triton.jit
def count_kernel(x, total):
    tl.atomic_add(total, tl.load(x + tl.program_id(0)))


def count(call, torch_too: bool = False) -> list:
    counting = Counting()
    with session(counting=counting) as watched:
        if torch_too:
            with TorchTraffic(counting):
                call()
        else:
            call()
    assert not watched.faults
    return counting.launches


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64])
def test_bytes_read_twice_count_once_and_are_requested_twice(dtype: torch.dtype):
    x, y = torch.ones(40, dtype=dtype), torch.zeros(40, dtype=dtype)
    (launch,) = count(lambda: twice_kernel[(3,)](x, y, 37, BLOCK=16))
    item = dtype.itemsize
    assert (launch.kernel, launch.read, launch.written) == ("twice_kernel", 37 * item, 37 * item)
    assert launch.requested == (2 * 37 + 3 + 37) * item


def test_every_launch_counts_for_itself():
    x, y = torch.ones(64)[8:40], torch.zeros(32)
    launches = count(lambda: [twice_kernel[(1,)](x, y, 8, BLOCK=8) for _ in range(2)])
    assert [(launch.read, launch.written) for launch in launches] == [(32, 32)] * 2


def test_an_atomic_reads_and_writes():
    x, total = torch.ones(5), torch.zeros(1)
    (launch,) = count(lambda: count_kernel[(5,)](x, total))
    assert (launch.read, launch.written, launch.requested) == (5 * 4 + 4, 4, 5 * (4 + 2 * 4))
    assert total.item() == 5


def test_what_torch_does_between_kernels_counts_and_views_do_not():
    x = torch.ones(16)

    def call() -> None:
        y = torch.empty(16)
        twice_kernel[(1,)](x.view(4, 4), y, 16, BLOCK=16)
        y.reshape(4, 4).t().add_(x[0])
        torch.cat([x, y])

    launches = count(call, torch_too=True)
    assert [(one.kernel, one.read, one.written) for one in launches] == [
        ("twice_kernel", 64, 64),
        ("torch.add_", 68, 64),
        ("torch.cat", 128, 128),
    ]


def test_an_access_out_of_bounds_is_found_and_not_counted():
    x, y = torch.ones(8), torch.zeros(8)
    counting = Counting()
    with session(counting=counting) as watched:
        twice_kernel[(1,)](x, y, 12, BLOCK=16)
    assert [fault.kind for fault in watched.faults] == ["load", "load", "store"]
    assert counting.launches[0].read == 32
