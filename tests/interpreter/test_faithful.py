"""The faithful arithmetic does what torch does, operation by operation and dtype by dtype."""

import pytest
import torch
import triton
import triton.language as tl

from deltaproof.verify.interpreter import session

FLOATS = [torch.float32, torch.float16, torch.bfloat16]
N = 256


@triton.jit
def binary_kernel(x, y, o, OP: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    b = tl.load(y + i)
    if OP == "add":
        r = a + b
    elif OP == "sub":
        r = a - b
    elif OP == "mul":
        r = a * b
    elif OP == "lt":
        r = tl.where(a < b, a, b)
    elif OP == "maximum":
        r = tl.maximum(a, b)
    else:
        r = tl.fma(a, b, a)
    tl.store(o + i, r)


@triton.jit
def cast_kernel(x, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, tl.load(x + i).to(o.dtype.element_ty))


@triton.jit
def unary_kernel(x, o, OP: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i)
    if OP == "exp":
        r = tl.exp(a)
    elif OP == "exp2":
        r = tl.exp2(a)
    elif OP == "log":
        r = tl.log(a)
    elif OP == "rsqrt":
        r = tl.rsqrt(a)
    elif OP == "sqrt":
        r = tl.sqrt(a)
    elif OP == "neg":
        r = -a
    else:
        r = tl.abs(a)
    tl.store(o + i, r)


@triton.jit
def dot_kernel(a, b, o, PRECISION: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    at = i[:, None] * N + i[None, :]
    tl.store(o + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision=PRECISION))


@triton.jit
def reduce_kernel(x, o, OP: tl.constexpr, REVERSE: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i[:, None] * N + i[None, :])
    if OP == "sum":
        tl.store(o + i, tl.sum(a, 1).to(o.dtype.element_ty))
    elif OP == "max":
        tl.store(o + i, tl.max(a, 0).to(o.dtype.element_ty))
    else:
        tl.store(o + i[:, None] * N + i[None, :], tl.cumsum(a, 1, reverse=REVERSE).to(o.dtype.element_ty))


def values(dtype, seed=0, special=True):
    """Ordinary values of all sizes, ties of rounding, subnormals, infinities and NaN."""
    x = torch.randn(N, generator=torch.Generator().manual_seed(seed)) * torch.logspace(-12, 12, N)
    hard = [
        0.0,
        -0.0,
        1 + 2**-8,
        1 + 3 * 2**-8,
        1e-40,
        -3e-39,
        6e-8,
        65520.0,
        3.39e38,
        7e37,
        float("inf"),
        -float("inf"),
        float("nan"),
    ]
    if special:
        x[: len(hard)] = torch.tensor(hard)
    return x.to(dtype)


def same_bits(x, y):
    return torch.equal(x.isnan(), y.isnan()) and torch.equal(x[~x.isnan()], y[~y.isnan()])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ["add", "sub", "mul", "lt", "maximum"])
def test_binary_operations_round_once(op, dtype):
    x, y = values(dtype), values(dtype, seed=1).flip(0)
    o = torch.empty_like(x)
    with session():
        binary_kernel[(1,)](x, y, o, op, N)
    wanted = {
        "add": lambda: x + y,
        "sub": lambda: x - y,
        "mul": lambda: x * y,
        "lt": lambda: torch.where(x < y, x, y),
        "maximum": lambda: torch.fmax(x, y),
    }[op]()
    assert same_bits(o, wanted)


@pytest.mark.parametrize("dtype", FLOATS)
def test_fma_rounds_once(dtype):
    x, y = (values(dtype, seed, special=False) for seed in (0, 1))
    o = torch.empty_like(x)
    with session():
        binary_kernel[(1,)](x, y, o, "fma", N)
    assert same_bits(o, (x.double() * y.double() + x.double()).to(dtype))


@pytest.mark.parametrize("target", [*FLOATS, torch.float64, torch.int32])
@pytest.mark.parametrize("source", [*FLOATS, torch.float64, torch.int32, torch.int64])
def test_casts(source, target):
    x = (
        torch.randint(-(2**15), 2**15, (N,))
        if not source.is_floating_point or not target.is_floating_point
        else values(torch.float32)
    )
    x = x.to(source)
    o = torch.empty(N, dtype=target)
    with session():
        cast_kernel[(1,)](x, o, N)
    assert same_bits(o, x.to(target))


@pytest.mark.parametrize("op", ["exp", "exp2", "log", "rsqrt", "sqrt", "neg", "abs"])
def test_unary_operations(op):
    x = values(torch.float32)
    if op in ("exp", "exp2"):
        x = x.clamp(-80, 80)
    o = torch.empty_like(x)
    with session():
        unary_kernel[(1,)](x, o, op, N)
    torch.testing.assert_close(o, getattr(torch, op)(x), rtol=3e-7, atol=0, equal_nan=True)


@pytest.mark.parametrize("op", ["neg", "abs"])
@pytest.mark.parametrize("dtype", FLOATS)
def test_signs(op, dtype):
    x = values(dtype)
    o = torch.empty_like(x)
    with session():
        unary_kernel[(1,)](x, o, op, N)
    assert same_bits(o, getattr(torch, op)(x))


@pytest.mark.parametrize("dtype", FLOATS)
def test_dots_accumulate_in_float32(dtype):
    a, b = (torch.randn(32, 32, generator=torch.Generator().manual_seed(i)).to(dtype) for i in (0, 1))
    o = torch.empty(32, 32)
    with session():
        dot_kernel[(1,)](a, b, o, "ieee", 32)
    torch.testing.assert_close(o, a.float() @ b.float(), rtol=0, atol=1e-5)
    assert not torch.equal(o, o.bfloat16().float())


@pytest.mark.parametrize(
    ("precision", "expected"), [("ieee", 2**-20), ("tf32", 0.0), ("tf32x3", 2**-20), ("bf16x3", 2**-20)]
)
def test_input_precision_rounds_float32_operands(precision, expected):
    a, b, o = (1 + 2**-12) * torch.eye(16), (1 - 2**-12) * torch.eye(16), torch.empty(16, 16)
    if precision != "tf32":
        a, b = (1 + 2**-20) * torch.eye(16), torch.eye(16)
    with session() as s:
        dot_kernel[(1,)](a, b, o, precision, 16)
    bits = {"bf16x3": 2**-15}.get(precision, 2**-22)
    assert abs(o[0, 0].item() - (1 + expected)) <= bits
    assert bool(s.rounded_dots) == (precision != "ieee")


def test_tf32_keeps_ten_bits_of_mantissa():
    x = torch.randn(16, 16)
    o = torch.empty(16, 16)
    with session():
        dot_kernel[(1,)](x, torch.eye(16), o, "tf32", 16)
    assert ((o - x).abs() <= 2**-11 * x.abs()).all()
    assert not (o.view(torch.int32) & 0x1FFF).any()


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("reverse", [False, True])
def test_running_sums(dtype, reverse):
    x = torch.randint(-4, 5, (32, 32)).to(dtype)
    o = torch.empty(32, 32)
    with session():
        reduce_kernel[(1,)](x, o, "cumsum", reverse, 32)
    flip = (lambda y: y.flip(1)) if reverse else (lambda y: y)
    assert torch.equal(o, flip(flip(x.float()).cumsum(1)))


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ["sum", "max"])
def test_reductions(dtype, op):
    x = torch.randint(-4, 5, (32, 32)).to(dtype)
    o = torch.empty(32)
    with session():
        reduce_kernel[(1,)](x, o, op, False, 32)
    assert torch.equal(o, x.float().sum(1) if op == "sum" else x.float().amax(0))


def test_sums_of_halves_round_at_every_node():
    x = torch.ones(64, 64, dtype=torch.bfloat16)
    x[:, 0] = 256  # 256 + 1 is 256 in bfloat16, but 256 + 2 is not
    o = torch.empty(64)
    with session():
        reduce_kernel[(1,)](x, o, "sum", False, 64)
    exact, one_by_one = 256 + 63, 256
    assert one_by_one < o[0] < exact
