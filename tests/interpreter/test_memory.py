"""The memory check: every planted fault is found, with its line, and nothing else is."""

from pathlib import Path

import pytest
import torch
import triton
import triton.language as tl

from deltaproof.verify.interpreter import session


@triton.jit
def row_sum_kernel(x, o, T, FAULT: tl.constexpr, D: tl.constexpr, BT: tl.constexpr, BD: tl.constexpr):
    """o_t = sum of row t of x [T, D]; FAULT plants one."""
    t, d = tl.program_id(0) * BT + tl.arange(0, BT), tl.arange(0, BD)
    rows, columns = t[:, None] < T, d[None, :] < D
    at = x + t[:, None] * D + d[None, :]
    if FAULT == "no row mask":
        v = tl.load(at, mask=columns, other=0.0)
    elif FAULT == "far load":
        v = tl.load(at + 400_000_000, mask=rows & columns, other=0.0)
    elif FAULT == "next row":
        v = tl.load(at, mask=rows, other=0.0)
    elif FAULT == "undefined lanes":
        v = tl.load(at, mask=rows & columns)
    else:
        v = tl.load(at, mask=rows & columns, other=0.0)
    s = tl.sum(v, 1)
    if FAULT == "no store mask":
        tl.store(o + t, s)
    elif FAULT == "far store":
        tl.store(o - 1_000_000_000 + t, s, mask=t < T)
    elif FAULT == "last row":
        tl.store(o + t, s, mask=t < T - 1)
    elif FAULT == "input":
        tl.store(o + t, s, mask=t < T)
        tl.store(x + t * D, s, mask=t == 3)
    else:
        tl.store(o + t, s, mask=t < T)


T, D, BT, BD = 37, 24, 16, 32


def line_of(text):
    lines = Path(__file__).read_text().splitlines()
    return 1 + next(i for i, line in enumerate(lines) if text in line)


def run(fault):
    x = torch.randn(T, D)
    with session(memory=True) as s:
        inside, o = s.guard(x, name="x"), torch.empty(T)
        row_sum_kernel[(triton.cdiv(T, BT),)](inside, o, T, fault, D, BT, BD)
        return s, x.sum(1), o, s.unwritten(o)


def test_a_sound_kernel_passes():
    s, wanted, o, unwritten = run("")
    assert not s.faults and not s.damaged() and not unwritten
    torch.testing.assert_close(o, wanted)


@pytest.mark.parametrize(
    ("fault", "kind", "text", "program", "count", "distance"),
    [
        ("no row mask", "load", "v = tl.load(at, mask=columns", (2, 0, 0), 11 * D, 11 * D * 4),
        ("far load", "load", "v = tl.load(at + 400", (0, 0, 0), T * D, None),
        ("next row", "load", "v = tl.load(at, mask=rows, other", (2, 0, 0), BD - D, (BD - D) * 4),
        ("no store mask", "store", "tl.store(o + t, s)", (2, 0, 0), 11, 11 * 4),
        ("far store", "store", "tl.store(o - 1_000", (0, 0, 0), T, None),
    ],
)
def test_faults_are_located(fault, kind, text, program, count, distance):
    s, _, _, _ = run(fault)
    (found,) = s.faults
    assert (found.kind, found.kernel, found.file, found.line) == (kind, "row_sum_kernel", __file__, line_of(text))
    assert (found.program, found.count) == (program, count)
    assert found.distance == distance if distance is not None else found.distance > 10**9
    assert "out of bounds" in str(found) and not s.damaged()


def test_unwritten_elements_are_counted():
    s, _, o, unwritten = run("last row")
    assert unwritten == 1 and o[-1].isnan() and not s.faults


def test_modified_inputs_are_named():
    s, _, _, _ = run("input")
    assert s.damaged() == ["x: 1 of its 888 elements were modified"] and not s.faults


def test_masked_loads_without_a_value_are_poison():
    _, _, o, unwritten = run("undefined lanes")
    assert o.isnan().all() and not unwritten


@triton.jit
def strided_copy_kernel(x, o, row, column, T: tl.constexpr, D: tl.constexpr, EXTRA: tl.constexpr):
    t, d = tl.arange(0, T), tl.arange(0, D)
    v = tl.load(x + t[:, None] * row + (d[None, :] + EXTRA) * column)
    tl.store(o + t[:, None] * D + d[None, :], v)


@pytest.mark.parametrize(
    "view",
    [
        lambda: torch.randn(16, 32)[:, :8],
        lambda: torch.randn(16, 32)[:, 1::2][:, :8],
        lambda: torch.randn(32, 16).t()[:16, :8],
        lambda: torch.randn(1, 32).expand(16, 32)[:, :8],
    ],
)
def test_strided_views_end_where_the_view_ends(view):
    x, o = view(), torch.empty(16, 8)
    with session(memory=True) as s:
        strided_copy_kernel[(1,)](x, o, x.stride(0), x.stride(1), 16, 8, 0)
        assert not s.faults and torch.equal(o, x)
        strided_copy_kernel[(1,)](x, o, x.stride(0), x.stride(1), 16, 8, 1)
        assert [fault.kind for fault in s.faults] == ["load"]


def test_guarded_copies_keep_strides_values_and_gradients():
    x = torch.randn(6, 10)[:, 1::3].requires_grad_()
    with session(memory=True) as s:
        inside = s.guard(x)
        assert inside.stride() == x.stride() and torch.equal(inside, x) and inside.requires_grad and inside.is_leaf
        (inside * 2).sum().backward()
        assert torch.equal(inside.grad, torch.full_like(x, 2))
        expanded = s.guard(torch.randn(4, 1).expand(4, 5))
        assert expanded.stride() == (1, 0)
        with torch.no_grad():
            inside.as_strided((1,), (1,), inside.storage_offset() + 1).fill_(1.0)
        s.guard(torch.zeros(3), name="output", writable=True).fill_(1.0)
        assert len(s.damaged()) == 1 and "1 elements around it were overwritten" in s.damaged()[0]


def test_fresh_memory_is_poisoned_and_zeros_are_not():
    with session(memory=True) as s:
        x = torch.empty(5, 7)
        fresh = [
            x,
            torch.empty_like(x),
            x.new_empty(3),
            torch.empty(4, dtype=torch.bfloat16),
            torch.empty(4, dtype=torch.int32),
        ]
        assert [s.unwritten(y) for y in fresh] == [y.numel() for y in fresh]
        assert all(y.isnan().all() for y in fresh[:4]) and (fresh[4] < -(10**6)).all()
        zeros = [torch.zeros(5), x.new_zeros(3), torch.zeros_like(x), torch.full((3,), 0.0), torch.zeros(3).clone()]
        assert not any(y.count_nonzero() for y in zeros)
        x[0] = 1.0
        assert s.unwritten(x) == 28
        x.as_strided((1,), (1,), x.storage_offset() + 35).fill_(0)
        assert s.damaged() == ["torch.empty (5, 7): 1 elements around it were overwritten"]


def test_autograd_may_write_into_slices_of_fresh_memory():
    x = torch.arange(12.0).reshape(3, 4).requires_grad_()
    with session(memory=True) as s:
        o = torch.zeros(3, 4)
        for i in range(3):
            o[i] = x[i] + x[i]
        (dx,) = torch.autograd.grad(o, x, x.detach())
        assert s.damaged() == []
    assert torch.equal(dx, 2 * x)


@triton.jit
def scalar_kernel(x, n, o):
    i = tl.program_id(0)
    v = tl.load(x + i, mask=i < 3, other=0.0)
    m = tl.load(n + i, mask=i < 3, other=0)
    tl.atomic_add(o + i, v + m, mask=i < 4)
    tl.atomic_add(n + tl.arange(0, 4) + i, 1, mask=tl.arange(0, 4) < 1)


def test_scalars_and_atomics_are_checked():
    x, n = torch.ones(3), torch.arange(3)
    with session(memory=True) as s:
        o = torch.zeros(3)
        scalar_kernel[(4,)](x, n, o)
    assert o.tolist() == [1, 2, 3] and n.tolist() == [1, 2, 3]
    assert [(fault.kind, fault.count, fault.program) for fault in s.faults] == [("atomic", 1, (3, 0, 0))] * 2


def test_only_tensors_of_the_launch_may_be_touched():
    """Two rows of one tensor, only one of which is passed: the other is out of bounds."""
    x, o = torch.randn(2, 128), torch.empty(16, 8)
    with session(memory=True) as s:
        strided_copy_kernel[(1,)](x[0], o, 8, 1, 16, 8, 0)
        assert not s.faults
        strided_copy_kernel[(1,)](x[0], o, 8, 1, 16, 8, 8)
    assert s.faults[0].count == 8 and s.faults[0].distance == 32


@triton.jit
def starts_kernel(starts):
    tl.store(starts + tl.program_id(0), tl.program_id(0) * 8)


@triton.jit
def gather_kernel(x, starts, o):
    i, r = tl.program_id(0), tl.arange(0, 8)
    start = tl.load(starts + tl.num_programs(0) - 1 - i)
    tl.store(o + i * 8 + r, tl.load(x + start + r))


def test_of_kernels_that_say_where_every_program_runs():
    """The last program reads where the first one of the launch before said."""
    x, o, starts = torch.rand(32), torch.empty(32), torch.full((4,), 10**9)
    with session(memory=True, last_program=True) as s:
        starts_kernel[(4,)](starts)
        gather_kernel[(4,)](x, starts, o)
    assert not s.faults and torch.equal(o[24:], x[:8])
