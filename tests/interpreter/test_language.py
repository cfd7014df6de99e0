"""Language rules that the stock interpreter bends: types of indices and arguments, launch options, names, errors."""

import ast

import numpy as np
import pytest
import torch
import triton
import triton.language as tl
from triton.runtime import interpreter as triton_interpreter
from triton.runtime.errors import InterpreterError

from deltaproof.verify.interpreter import overlay, session

captured_exp = tl.exp
captured_gather = tl.gather
captured_range = tl.static_range


@triton.jit
def loop_kernel(o, T, START: tl.constexpr):
    for i in range(START, T):
        tl.store(o + i, (i.to(tl.int64) + 2147483647).to(tl.float32))
    for j in tl.range(0, 2):
        tl.store(o + T + j, (j + 2147483647).to(tl.float32))
    total = 0
    for k in tl.static_range(3):
        total += 2**k
    for k in captured_range(0, 4, step=2):
        total += k
    tl.store(o + T + 2, total.to(tl.float32))


@triton.jit
def halve(x, by: tl.constexpr = 2):
    return x / by


@triton.jit
def scale_kernel(x, o, scale, flag, N: tl.constexpr):
    i = tl.arange(0, N)
    y = tl.load(x + i) * scale
    if flag:
        y = halve(y)
    tl.store(o + i, y.to(o.dtype.element_ty))


@triton.jit
def captured_kernel(x, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, captured_gather(captured_exp(tl.load(x + i)), N - 1 - i, 0))


@triton.jit
def small_dot_kernel(x, o):
    i = tl.arange(0, 8)
    a = tl.load(x + i[:, None] * 8 + i[None, :])
    tl.store(o + i[:, None] * 8 + i[None, :], tl.dot(a, a))


@triton.jit
def assert_kernel(x, o, limit):
    v = tl.load(x + tl.program_id(0))
    tl.device_assert(v < limit, "value too large")
    tl.store(o + tl.program_id(0), v)


@triton.jit
def overflow_kernel(o, n):
    tl.store(o, n * n)


@triton.jit
def mixed_kernel(x, y, sums, products, below, cast, N: tl.constexpr):
    i = tl.arange(0, N)
    a, b = tl.load(x + i), tl.load(y + i)
    first, last = tl.load(x), tl.load(y + (N - 1))
    tl.store(sums + i, a + b)
    tl.store(sums + N + i, a - last)
    tl.store(sums + 2 * N + i, first + b)
    tl.store(sums + 3 * N, first - last)
    tl.store(products + i, a * b)
    tl.store(products + N + i, -1 * b * a - 1)
    tl.store(below + i, (a < b).to(tl.int32))
    tl.store(below + N + i, (first >= b).to(tl.int32))
    tl.store(cast + i, a.to(tl.int32))
    tl.store(cast + N + i, b.to(tl.float32).to(tl.bfloat16).to(tl.float32).to(tl.int32))


@pytest.mark.parametrize("check_overflow", [False, True])
@pytest.mark.parametrize("types", [(torch.int32, torch.int64), (torch.int64, torch.int32), (torch.int64, torch.int64)])
def test_integers_of_two_widths_meet_in_the_wider(types: tuple[torch.dtype, torch.dtype], check_overflow: bool):
    N, large = 8, 2**31 - 4
    x, y = (torch.arange(large, large + N).to(dtype) for dtype in types)
    y[:3] -= large
    sums, products = torch.zeros(4 * N, dtype=torch.int64), torch.zeros(2 * N, dtype=torch.int64)
    below, cast = torch.zeros(2 * N, dtype=torch.int32), torch.zeros(2 * N, dtype=torch.int32)
    with session(check_overflow=check_overflow):
        mixed_kernel[(1,)](x[:4], y[:4], sums, products, below, cast, 4)
    a, b = x[:4].long(), y[:4].long()
    assert sums[:13].tolist() == [*(a + b).tolist(), *(a - b[3]).tolist(), *(a[0] + b).tolist(), int(a[0] - b[3])]
    assert products[:8].tolist() == [*(a * b).tolist(), *(-b * a - 1).tolist()]
    assert below[:8].tolist() == [*(a < b).int().tolist(), *(a[0] >= b).int().tolist()]
    assert cast[:7].tolist() == [*a.tolist(), *b[:3].tolist()]


def test_loop_indices_are_typed():
    o = torch.zeros(8)
    with session():
        loop_kernel[(1,)](o, 4, 2)
    assert o[2:4].tolist() == [2.0**31, 2.0**31]  # int64: no overflow
    assert o[4:6].tolist() == [2.0**31, -(2.0**31)]  # int32 wraps
    assert o[6] == 1 + 2 + 4 + 0 + 2


def test_python_floats_are_fp32_scalars():
    """A bf16 tensor times an fp32 argument is fp32: it rounds once, when stored."""
    x = torch.full((16,), 1.0078125, dtype=torch.bfloat16)
    o = torch.empty(16)
    with session():
        scale_kernel[(1,)](x, o, 1.0009765625, False, 16)
        assert (o == 1.0078125 * 1.0009765625).all()
        scale_kernel[(1,)](x, o, 1.0009765625, True, 16)
        assert (o == 1.0078125 * 1.0009765625 / 2).all()


def test_names_captured_at_import():
    x, o = torch.randn(16), torch.empty(16)
    with session():
        captured_kernel[(1,)](x, o, 16)
    torch.testing.assert_close(o, x.exp().flip(0))


def test_dots_too_small_for_a_gpu_are_refused():
    with session(), pytest.raises(InterpreterError, match=r"small_dot_kernel.*test_language\.py.*K >= "):
        small_dot_kernel[(1,)](torch.ones(8, 8, dtype=torch.bfloat16), torch.empty(8, 8))


def test_device_assert_raises_with_place_and_program():
    with (
        session(),
        pytest.raises(InterpreterError, match=r"program \(3, 0, 0\), .*test_language.py:\d+: .*value too large"),
    ):
        assert_kernel[(5,)](torch.arange(5.0), torch.empty(5), 2.5)


def test_integer_overflow_raises_on_demand():
    o = torch.zeros(1, dtype=torch.int32)
    with session():
        overflow_kernel[(1,)](o, 70000)
        assert o.item() == (70000 * 70000 + 2**31) % 2**32 - 2**31
    with session(check_overflow=True), pytest.raises(InterpreterError, match="overflow"):
        overflow_kernel[(1,)](o, 70000)


def test_launch_arguments_are_checked():
    x, o = torch.ones(16), torch.empty(16)
    with session():
        scale_kernel[(1,)](x, o, 2.0, flag=False, N=16, num_warps=4, num_stages=3, maxnreg=128)
        assert (o == 2).all()
        with pytest.raises(TypeError, match=r"'num_warp' is neither an argument .* nor a launch option"):
            scale_kernel[(1,)](x, o, 2.0, False, 16, num_warp=4)
        with pytest.raises(TypeError, match="missing"):
            scale_kernel[(1,)](x, o, 2.0, False)
        with pytest.raises(ValueError, match="num_warps must be a power of two"):
            scale_kernel[(1,)](x, o, 2.0, False, 16, num_warps=7)
        with pytest.raises(ValueError, match="one to three sizes"):
            scale_kernel[(1, 1, 1, 1)](x, o, 2.0, False, 16)
        scale_kernel[lambda args: (args["N"] // 16,)](x, o, 3.0, False, 16)
        assert (o == 3).all()
        scale_kernel[(0,)](x, o, 4.0, False, 16)
        assert (o == 3).all()


def test_sessions_do_not_nest_and_leave_no_trace():
    def state():
        owners = (tl, tl.core, tl.math, tl.tensor, tl.dtype, triton_interpreter, triton_interpreter.InterpretedFunction)
        builder = triton_interpreter.interpreter_builder
        owners += (triton_interpreter.TensorHandle,)
        return [dict(vars(owner)) for owner in owners] + [dict(vars(builder)), type(builder)]

    before, module = state(), dict(globals())
    with session(memory=True), pytest.raises(RuntimeError, match="do not nest"), session():
        pass
    with session("exact"), pytest.raises(InterpreterError):
        small_dot_kernel[(1,)](torch.ones(8, 8, dtype=torch.bfloat16), torch.empty(8, 8))
    assert state() == before and dict(globals()) == module
    with session():
        scale_kernel[(1,)](torch.ones(16), torch.empty(16), 2.0, False, 16)


def test_other_triton_versions_are_refused(monkeypatch):
    for version in ("3.5.1", "3.10.0", "4.0.0"):
        monkeypatch.setattr(triton, "__version__", version)
        with pytest.raises(RuntimeError, match=rf"tested with Triton 3.6 to 3.9, not {version}"), session():
            pass


def test_compiled_kernels_are_refused(monkeypatch):
    monkeypatch.setattr(tl, "sum", lambda x: x)
    with (
        pytest.raises(RuntimeError, match="set TRITON_INTERPRET=1 in the environment before triton is imported"),
        session(),
    ):
        pass


def test_syntax_trees_can_be_transformed():
    class AddInstead(ast.NodeTransformer):
        def visit_Mult(self, node):
            return ast.Add()

    def plant(name, tree):
        return AddInstead().visit(tree) if name.endswith(":scale_kernel") else tree

    x, o = torch.ones(16), torch.empty(16)
    with session(transform=plant):
        scale_kernel[(1,)](x, o, 5.0, True, 16)
    assert (o == 3).all()
    with session():
        scale_kernel[(1,)](x, o, 5.0, True, 16)
    assert (o == 2.5).all()


@triton.jit
def shortcut_kernel(x, y, h, n, m, o, flags, T, N: tl.constexpr):
    i, j = tl.arange(0, N), tl.arange(0, 4)
    a, b = tl.load(x + i[:, None] * 4 + j[None, :], mask=i[:, None] < T, other=-1), tl.load(y + j)
    c, first = tl.load(h + i), tl.load(x)
    k, p = tl.load(n + i), tl.load(m + i)
    at = i[:, None] * 4 + j[None, :]
    r = tl.where((i[:, None] < 3) & (a < b[None, :]), a * 2 - b[None, :], 1)
    r = (r + c[:, None] * first) * 0.5 - (2 - a) * T
    r += tl.where(k > p, k * 3 + p - 1, p)[:, None] + (k == 2)[:, None]
    tl.store(o + at, r)
    tl.store(o + at + N * 4, first, mask=at < T)
    tl.store(flags + i, (k >= p) | (i != T))
    tl.store(h + i, c * 3 + 1.5)


def test_shortcuts_agree_with_the_language(monkeypatch):
    """The same kernel, through the shortcuts and through Triton's own type promotion."""

    def run():
        rng = np.random.default_rng(0)
        x, y, h = (torch.from_numpy(rng.standard_normal(n, dtype=np.float32)) for n in (64, 4, 16))
        n, m = (torch.from_numpy(rng.integers(-5, 5, 16)).to(kind) for kind in (torch.int32, torch.int64))
        h, o, flags = h.to(torch.float16), torch.zeros(128), torch.zeros(16, dtype=torch.bool)
        with session():
            shortcut_kernel[(1,)](x, y, h, n, m, o, flags, 13, 16)
        return o, flags, h

    short = run()
    monkeypatch.setattr(overlay.shortcuts, "install", lambda *_: None)
    for quick, full in zip(short, run(), strict=True):
        assert torch.equal(quick, full)
