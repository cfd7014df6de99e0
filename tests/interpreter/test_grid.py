"""A grid split over processes gives the same bits, the same findings and the same errors."""

import dataclasses

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError

from deltaproof.specs.arithmetic import field
from deltaproof.verify.interpreter import field_array, grid, payload_tensor, session


@triton.jit
def product_kernel(x, y, o, seen, limit, B: tl.constexpr):
    i, r = tl.program_id(0), tl.arange(0, B)
    at = r[:, None] * B + r[None, :]
    tl.device_assert(i < limit, "past the limit")
    a = tl.load(x + i * B * B + at)
    acc = tl.zeros([B, B], tl.float32)
    for _ in range(2):
        acc += tl.dot(a, tl.load(y + at), input_precision="ieee")
    tl.store(o + i * B * B + at, acc)
    tl.store(seen + i, i)


@triton.jit
def count_kernel(o):
    tl.atomic_add(o + tl.program_id(0) % 2, tl.program_id(0).to(tl.float32))


PROGRAMS, B = 80, 16


def product(x, y, limit=PROGRAMS, **options):
    o, seen = torch.full((PROGRAMS, B, B), -1.0), torch.zeros(PROGRAMS, dtype=torch.int64)
    with session(**options) as s:
        product_kernel[(PROGRAMS,)](x, y, o, seen, limit, B)
    assert torch.equal(seen, torch.arange(PROGRAMS))
    return o, s


@pytest.fixture(autouse=True)
def many_processes_pay(monkeypatch):
    monkeypatch.setattr(grid, "PROBE", 0.0)
    monkeypatch.setattr(grid, "WORTH_A_FORK", 0.0)


def test_same_bits():
    x, y = torch.randn(PROGRAMS, B, B), torch.randn(2, B, B)[1]
    assert torch.equal(product(x, y)[0], product(x, y, processes=3)[0])


def test_same_bits_in_the_field():
    rng = np.random.default_rng(0)
    x, y = field.random(rng, (PROGRAMS, B, B)), field.random(rng, (B, B))
    o, s = product(payload_tensor(x), payload_tensor(y), arithmetic="exact", processes=2)
    assert field.same(field_array(o), x @ y * 2).all() and not s.unsupported


def test_same_faults():
    x, y = torch.randn(PROGRAMS, B, B)[:-1], torch.randn(B, B)
    alone, together = (
        # the distance depends on where the tensors happen to lie
        [dataclasses.replace(fault, distance=0) for fault in product(x, y, memory=True, processes=n)[1].faults]
        for n in (1, 2)
    )
    assert alone == together and alone[0].count == B * B and alone[0].program == (PROGRAMS - 1, 0, 0)


def test_same_errors_and_nothing_half_done():
    x, y = torch.randn(PROGRAMS, B, B), torch.randn(B, B)
    with (
        session(processes=2),
        pytest.raises(InterpreterError, match=r"program \(70, 0, 0\), .*test_grid.py:\d+: .*past the limit"),
    ):
        product_kernel[(PROGRAMS,)](x, y, torch.empty(PROGRAMS, B, B), torch.zeros(PROGRAMS, dtype=torch.int64), 70, B)


def test_atomics_fall_back_to_one_process():
    o = torch.zeros(2)
    with session(processes=2):
        count_kernel[(PROGRAMS,)](o)
    assert o.tolist() == [sum(range(0, PROGRAMS, 2)), sum(range(1, PROGRAMS, 2))]
