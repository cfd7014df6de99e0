"""The exact arithmetic: a kernel equals its formula bit by bit, and every planted fault shows."""

import ast

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from deltaproof.specs.arithmetic import field
from deltaproof.specs.arithmetic.field import FieldArray, constant, same
from deltaproof.verify.interpreter import field_array, payload_tensor, session


@triton.jit
def level_pairs(x, y, g, after, row, C: tl.constexpr, K: tl.constexpr, h: tl.constexpr):
    """x_i y_j exp(sum of g over (j, i]) for pairs in the two halves of a block of 2h rows, split at its middle."""
    into = tl.reshape(tl.cumsum(tl.reshape(g, [C // h, h, K]), 1), [C, K])
    rest = tl.where((row % h == h - 1)[:, None], 0.0, after)
    rest = tl.reshape(tl.cumsum(tl.reshape(rest, [C // h, h, K]), 1, reverse=True), [C, K])
    upper = (x * tl.exp(into)).to(x.dtype)
    lower = y * tl.exp2(rest * 1.4426950408889634)
    block = row // h
    pairs = (block[:, None] % 2 == 1) & (block[:, None] == block[None, :] + 1)
    return tl.where(pairs, tl.dot(upper, tl.trans(lower), input_precision="ieee"), 0.0)


@triton.jit
def decayed_scores_kernel(x, y, g, o, T, scale, C: tl.constexpr, K: tl.constexpr, LEVELS: tl.constexpr):
    """o_ij = scale x_i . (y_j exp(sum of g over (j, i])), j <= i; x, y, g [T, K]; o [T, C]. One program: one chunk."""
    row, channel = tl.arange(0, C), tl.arange(0, K)
    t = tl.program_id(0) * C + row
    inside = t[:, None] < T
    at = t[:, None] * K + channel[None, :]
    a = tl.load(x + at, mask=inside, other=0.0) * scale
    b = tl.load(y + at, mask=inside, other=0.0)
    gate = tl.load(g + at, mask=inside, other=0.0)
    after = tl.load(g + at + K, mask=t[:, None] + 1 < T, other=0.0)
    scores = tl.where(row[:, None] == row[None, :], tl.sum(a * b, 1)[:, None], 0.0)
    for i in tl.static_range(LEVELS):
        scores += level_pairs(a, b, gate, after, row, C, K, 2**i)
    tl.store(o + t[:, None] * C + row[None, :], scores.to(o.dtype.element_ty), mask=inside)


T, K, C = 40, 16, 16


def scores_problem(seed=0):
    rng = np.random.default_rng(seed)
    return [field.random(rng, (T, K)) for _ in range(3)]


def scores_reference(x, y, g, scale):
    rows = []
    for i in range(T):
        start, row, total = i - i % C, [], field.FIELD.zeros((K,))
        for j in range(i, start - 1, -1):
            row.append((x[i] * y[j] * field.exp(total)).sum()[None] * scale)
            total = total + g[j]
        row.append(field.FIELD.zeros((C - len(row),)))
        rows.append(field.concatenate([*reversed(row[:-1]), row[-1]])[None])
    return field.concatenate(rows)


def run_scores(inputs, scale=0.25, **options):
    o = torch.zeros(T, C)
    with session("exact", **options) as s:
        decayed_scores_kernel[(3,)](*map(payload_tensor, inputs), o, T, scale, C, K, 4)
    return field_array(o), s


@pytest.mark.parametrize("scale", [0.25, 48**-0.5])
def test_a_realistic_kernel_equals_its_formula(scale):
    inputs = scores_problem()
    o, s = run_scores(inputs, scale)
    assert same(o, scores_reference(*inputs, scale)).all()
    assert not s.unsupported and not s.narrowings


def test_decay_of_minus_infinity_resets():
    x, y, g = scores_problem(1)
    g.bits[5] = field.NEG_INF
    o, s = run_scores((x, y, g))
    reference = scores_reference(x, y, g, 0.25)
    assert same(o, reference).all() and not s.unsupported
    assert not (reference.bits[5:16, :5]).any()


class Fault(ast.NodeTransformer):
    """Plants one fault: replaces the first syntax node that reads `old` by `new`, in any of the kernels."""

    def __init__(self, old, new):
        self.old, self.new, self.planted = ast.unparse(ast.parse(old, mode="eval")), new, 0

    def visit(self, node):
        if isinstance(node, ast.expr) and not self.planted and ast.unparse(node) == self.old:
            self.planted += 1
            return ast.copy_location(ast.parse(self.new, mode="eval").body, node)
        return self.generic_visit(node)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tl.trans(lower)", "lower"),
        (
            "tl.dot(upper, tl.trans(lower), input_precision='ieee')",
            "tl.dot(lower, tl.trans(upper), input_precision='ieee')",
        ),
        ("row % h == h - 1", "row % h == h"),
        ("block[None, :] + 1", "block[None, :] - 1"),
        ("tl.exp(into)", "tl.exp2(into)"),
        ("1.4426950408889634", "1.443"),
        ("tl.sum(a * b, 1)[:, None]", "tl.sum(a * b, 0)[:, None]"),
        ("g + at + K", "g + at"),
        ("a * b", "a + b"),
        ("t[:, None] + 1 < T", "t[:, None] + 9 < T"),
    ],
)
def test_planted_faults_show(old, new):
    fault, inputs = Fault(old, new), scores_problem()
    o, _ = run_scores(inputs, transform=lambda name, tree: fault.visit(tree))
    assert fault.planted == 1
    assert not same(o, scores_reference(*inputs, 0.25)).all()


@triton.jit
def narrowing_kernel(x, y, o, N: tl.constexpr):
    i = tl.arange(0, N)
    a = tl.load(x + i[:, None] * N + i[None, :]).to(tl.bfloat16)
    b = tl.load(y + i[:, None] * N + i[None, :]).to(tl.float16).to(tl.bfloat16)
    c = tl.dot(a, b)
    tl.store(o + i[:, None] * N + i[None, :], c)


def test_a_narrowing_cast_is_reported_and_its_value_goes_on():
    x, y = (field.random(np.random.default_rng(i), (16, 16)) for i in (0, 1))
    o = torch.zeros(16, 16)
    with session("exact") as s:
        narrowing_kernel[(1,)](payload_tensor(x), payload_tensor(y), o, 16)
    assert same(field_array(o), x @ y).all()
    lines = [line for file, line in s.narrowings if file == __file__]
    first = narrowing_kernel.fn.__code__.co_firstlineno
    assert lines == [first + 3, first + 4]


def test_payloads_survive_16_bit_memory():
    x, y = (field.random(np.random.default_rng(i), (16, 16)) for i in (0, 1))
    half, o = torch.zeros(16, 16, dtype=torch.bfloat16), torch.zeros(16, 16)
    with session("exact") as s:
        narrowing_kernel[(1,)](payload_tensor(x), payload_tensor(y), half, 16)
        narrowing_kernel[(1,)](half, payload_tensor(y), o, 16)
        o2 = half.float()
    assert same(field_array(o), x @ y @ y).all() and same(field_array(o2), x @ y).all()
    assert not s.unsupported
    half = torch.ones(16, 16, dtype=torch.bfloat16)
    with session("exact") as s:
        narrowing_kernel[(1,)](half, payload_tensor(y), o, 16)
    assert len(s.unsupported) == 1 and "load of bf16" in s.unsupported[0] and field.outside(field_array(o)).all()


@triton.jit
def operation_kernel(x, n, o, OP: tl.constexpr, N: tl.constexpr):
    i = tl.arange(0, N)
    a, k = tl.load(x + i), tl.load(n + i)
    if OP == "integers":
        r = (a + k.to(tl.float32)) * (k < 3) - 2 * k
    elif OP == "sigmoid":
        r = tl.sigmoid(a)
    elif OP == "sigmoid_formula":
        r = tl.exp(a - tl.log(1 + tl.exp(a)))
    elif OP == "reciprocal":
        r = 1 / (1 + tl.exp(-a))
    elif OP == "softplus":
        r = tl.log(1 + tl.exp(a))
    elif OP == "softplus2":
        r = tl.log2(1 + tl.exp2(a * 1.44269504)) * 0.6931471805599453
    elif OP == "normalise":
        r = a * tl.rsqrt(tl.sum(a * a) + 1e-6)
    elif OP == "divide":
        r = a / tl.sqrt(tl.sum(a * a) + 1e-6)
    elif OP == "fma":
        r = tl.fma(a, a, tl.full([N], 0.1, tl.float32))
    elif OP == "minus_infinity":
        r = tl.exp(tl.where(i < 4, float("-inf"), a))
    elif OP == "gather":
        r = tl.gather(a, N - 1 - i, 0)
    elif OP == "atomic":
        tl.atomic_add(o + i // 2, a)
        r = tl.load(o + i)
    elif OP == "maximum":
        r = tl.maximum(a, 0.0)
    elif OP == "compare":
        r = tl.where(a > 0, a, 0.0)
    elif OP == "max":
        r = a - tl.max(a, 0)
    elif OP == "abs":
        r = tl.abs(a)
    elif OP == "sin":
        r = tl.sin(a)
    elif OP == "to_int":
        r = a.to(tl.int32).to(tl.float32)
    else:
        r = a.to(tl.int32, bitcast=True).to(tl.float32, bitcast=True)
    tl.store(o + i, r)


def run_operation(op):
    x = field.random(np.random.default_rng(0), (16,))
    n, o = torch.arange(-8, 8, dtype=torch.int32), torch.zeros(16)
    with session("exact") as s:
        operation_kernel[(1,)](payload_tensor(x), n, o, op, 16)
    return x, field_array(o), s


@pytest.mark.parametrize(
    ("op", "formula"),
    [
        ("integers", lambda x, n: (x + field.integers(n)) * field.integers(n < 3) - field.integers(2 * n)),
        ("sigmoid", lambda x, n: field.sigmoid(x)),
        ("sigmoid_formula", lambda x, n: field.sigmoid(x)),
        ("reciprocal", lambda x, n: field.inverse(1 + field.exp(-x))),
        ("softplus", lambda x, n: field.softplus(x)),
        ("softplus2", lambda x, n: field.softplus(x)),
        ("normalise", lambda x, n: x * field.rsqrt((x * x).sum() + 1e-6)),
        ("divide", lambda x, n: x * field.rsqrt((x * x).sum() + 1e-6)),
        ("fma", lambda x, n: x * x + 0.1),
        ("minus_infinity", lambda x, n: field.exp(x) * field.integers(np.arange(16) >= 4)),
        ("gather", lambda x, n: x[::-1]),
        ("atomic", lambda x, n: field.concatenate([x.reshape(8, 2).sum(1), field.FIELD.zeros((8,))])),
    ],
)
def test_operations_of_the_algebra(op, formula):
    x, o, s = run_operation(op)
    assert same(o, formula(x, np.arange(-8, 8))).all()
    assert not s.unsupported


@pytest.mark.parametrize(
    ("op", "said"),
    [
        ("maximum", "fmax at "),
        ("compare", "comparison greater at "),
        ("max", "nanmax at "),
        ("abs", "absolute at "),
        ("sin", "sin at "),
        ("to_int", "cast to int32 at "),
        ("bits", "bitcast to int32 at "),
    ],
)
def test_operations_outside_the_algebra_are_named(op, said):
    _, _, s = run_operation(op)
    assert s.unsupported and s.unsupported[0].startswith(said) and __file__ in s.unsupported[0]


@triton.jit
def softplus(x):
    return tl.where(x > 20, x, tl.log(1 + tl.exp(x)))


@triton.jit
def softplus_kernel(x, o, N: tl.constexpr):
    i = tl.arange(0, N)
    tl.store(o + i, softplus(tl.load(x + i)))


def test_a_device_function_named_softplus_is_an_axiom():
    x, o = field.random(np.random.default_rng(0), (16,)), torch.zeros(16)
    with session("exact") as s:
        softplus_kernel[(1,)](payload_tensor(x), o, 16)
    assert same(field_array(o), field.softplus(x)).all()
    assert s.intrinsics == ["softplus"] and not s.unsupported


def test_torch_between_kernels():
    rng = np.random.default_rng(0)
    x, y = field.random(rng, (2, 3, 4)), field.random(rng, (2, 4, 5))
    a, b = payload_tensor(x).requires_grad_(), payload_tensor(y)
    with session("exact") as s:
        z = (a @ b + 1.5).exp()
        total = z.sum(-1) + torch.ones(3) - 2 * a[..., 0]
        total.backward(payload_tensor(x)[..., 1])
        w = torch.full((3,), 0.5).cumsum(0) * torch.arange(3)
    e = field.exp(x @ y + 1.5)
    assert same(field_array(total), e.sum(-1) + 1 - x[..., 0] * 2).all()
    g = (e * x[..., 1][..., None]) @ y.swapaxes(-1, -2)
    assert same(field_array(a.grad)[..., 1:], g[..., 1:]).all()
    assert same(field_array(a.grad)[..., 0], g[..., 0] - x[..., 1] * 2).all()
    assert same(field_array(w), FieldArray(np.array([0, 1, 3], np.uint32)) * constant(1)).all()
    assert not s.unsupported


def test_torch_solves_normalises_and_activates():
    rng = np.random.default_rng(1)
    x, y = field.random(rng, (2, 5, 5)), field.random(rng, (2, 5, 3))
    a, b = payload_tensor(x), payload_tensor(y)
    with session("exact") as s:
        solved = torch.linalg.solve_triangular(a.tril(), b, upper=False)
        unit = torch.linalg.solve_triangular(a.triu(1) + torch.eye(5), b.mT, upper=True, left=False, unitriangular=True)
        raw = b[0].clone().requires_grad_()
        torch.nn.functional.softplus(raw, threshold=float("inf")).pow(2).sum().backward()
        picked = torch.zeros(2, 3).index_add(0, torch.tensor([1, 1, 0, 1, 1]), b[0])
    lower = FieldArray(np.tril(np.ones((5, 5), np.uint32)) * x.bits)
    upper = FieldArray(np.triu(np.ones((5, 5), np.uint32), 1) * x.bits) + FieldArray(
        np.eye(5, dtype=np.uint32) * 0x10001
    )
    assert same(lower @ field_array(solved), y).all() and same(field_array(unit) @ upper, y.swapaxes(1, 2)).all()
    assert same(field_array(raw.grad), 2 * field.softplus(y[0]) * field.sigmoid(y[0])).all()
    assert same(field_array(picked)[1], y[0].sum(0) - y[0, 2]).all() and same(field_array(picked)[0], y[0, 2]).all()
    assert not s.unsupported


def test_torch_in_float64_carries_payloads():
    x = field.random(np.random.default_rng(2), (3, 4))
    a = payload_tensor(x).requires_grad_()
    with session("exact", memory=True) as s:
        wide = a.double()
        square = wide @ wide.T * torch.full((), 0.5, dtype=torch.float64) + torch.ones(3, 3, dtype=torch.float64)
        mixed = torch.zeros(3, 4).add_(wide)
        square.float().sum().backward()
    assert wide.dtype == square.dtype == torch.float64
    assert same(field_array(square), (x @ x.T) * 0.5 + 1.0).all() and same(field_array(mixed), x).all()
    assert same(field_array(a.grad), x.sum(0).reshape(1, 4).broadcast_to((3, 4))).all()
    assert not s.unsupported


def test_a_sigmoid_undoes_a_logit():
    x = field.random(np.random.default_rng(3), (20,))
    a = payload_tensor(x).requires_grad_()
    with session("exact") as s:
        raw = ((a.double() / 2).logit() / 3 - 0.25).float()
        back = 2 * (3 * (raw + 0.25)).sigmoid()
        back.sum().backward()
    assert same(field_array(back), x).all() and not same(field_array(raw), x).any()
    assert same(field_array(a.grad), FieldArray(np.zeros(20, np.uint32)) + 1.0).all()
    assert not s.unsupported


def test_what_a_session_knew_of_logits_ends_with_it():
    a = field.random(np.random.default_rng(0), (4,))
    with session("exact"):
        raw = field.logit(a)
        assert same(field.sigmoid(raw), a).all()
    assert not same(field.sigmoid(raw), a).any()


def test_torch_outside_the_algebra_is_named():
    x = payload_tensor(field.random(np.random.default_rng(0), (4,)))
    with session("exact") as s:
        y = torch.relu(x)
        z = x.to(torch.bfloat16).float()
        torch.rand(3)
    assert [said.split(" at ")[0] for said in s.unsupported] == [
        "torch.relu",
        "torch.rand",
    ] and __file__ in s.unsupported[0]
    assert field.outside(field_array(y)).all() and torch.equal(z.view(torch.int32), x.view(torch.int32))
    assert s.narrowings and s.narrowings[0][0] == __file__
