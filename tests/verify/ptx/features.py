# pyright: reportArgumentType=false, reportCallIssue=false, reportAttributeAccessIssue=false, reportGeneralTypeIssues=false
"""Small Triton kernels that make the compiler emit what it has: each with a call on CPU tensors and what it should give.

A feature is a function without arguments that launches kernels and returns pairs (got, expected, tolerance).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import triton
import triton.language as tl
from triton.language.extra import libdevice
from triton.tools.tensor_descriptor import TensorDescriptor

Pair = tuple[torch.Tensor, torch.Tensor, float]
FEATURES: dict[str, Callable[[], list[Pair]]] = {}
NEEDS: dict[str, int] = {}
"""The oldest architecture that a feature runs on, where that is not sm_80."""


def feature(name: str, needs: int = 80):
    def register(call: Callable[[], list[Pair]]) -> Callable[[], list[Pair]]:
        FEATURES[name] = call
        NEEDS[name] = needs
        return call

    return register


def _random(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@triton.jit
def softmax_kernel(x, y, rows, columns, BLOCK: tl.constexpr, STAGES: tl.constexpr):
    for row in tl.range(tl.program_id(0), rows, tl.num_programs(0), num_stages=STAGES):
        at = tl.arange(0, BLOCK)
        v = tl.load(x + row * columns + at, mask=at < columns, other=-float("inf"))
        e = tl.exp(v - tl.max(v, axis=0))
        tl.store(y + row * columns + at, e / tl.sum(e, axis=0), mask=at < columns)


@feature("softmax")
def softmax() -> list[Pair]:
    x, y = _random(7, 300), torch.zeros(7, 300)
    softmax_kernel[(3,)](x, y, 7, 300, BLOCK=512, STAGES=2)
    return [(y, x.softmax(1), 1e-6)]


@triton.jit
def matmul_kernel(
    a, b, c, M, N, K, ACC: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, PRECISION: tl.constexpr
):  # fmt: skip
    m = tl.program_id(0) * BM + tl.arange(0, BM)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    k = tl.arange(0, BK)
    acc = tl.zeros((BM, BN), dtype=ACC)
    for start in range(0, K, BK):
        left = tl.load(
            a + m[:, None] * K + (start + k)[None, :], mask=(m < M)[:, None] & (start + k < K)[None, :], other=0.0
        )
        right = tl.load(
            b + (start + k)[:, None] * N + n[None, :], mask=(start + k < K)[:, None] & (n < N)[None, :], other=0.0
        )
        acc = tl.dot(left, right, acc, input_precision=PRECISION, out_dtype=ACC)
    tl.store(c + m[:, None] * N + n[None, :], acc.to(c.dtype.element_ty), mask=(m < M)[:, None] & (n < N)[None, :])


def matmul(
    dtype: torch.dtype, warps: int, stages: int, tolerance: float, precision: str = "tf32", block: int = 64
) -> list[Pair]:
    M, N, K = 100, 136, 160
    if dtype == torch.int8:
        a, b = (
            torch.randint(-9, 9, shape, generator=torch.Generator().manual_seed(3)).to(dtype)
            for shape in ((M, K), (K, N))
        )
        c, acc = torch.zeros(M, N, dtype=torch.int32), tl.int32
    else:
        a, b = _random(M, K, seed=1).to(dtype), _random(K, N, seed=2).to(dtype)
        out = torch.float64 if dtype == torch.float64 else torch.float32
        c, acc = torch.zeros(M, N, dtype=out), tl.float64 if dtype == torch.float64 else tl.float32
    grid = (triton.cdiv(M, block), triton.cdiv(N, 64))
    matmul_kernel[grid](
        a, b, c, M, N, K, ACC=acc, BM=block, BN=64, BK=32, PRECISION=precision, num_warps=warps, num_stages=stages
    )  # fmt: skip
    return [(c, a.double() @ b.double(), tolerance)]


for _name, _dtype, _tolerance, _needs in (
    ("fp16", torch.float16, 1e-5, 80), ("bf16", torch.bfloat16, 1e-5, 80), ("int8", torch.int8, 0, 80),
    ("e4m3", torch.float8_e4m3fn, 1e-4, 89), ("e5m2", torch.float8_e5m2, 1e-4, 89),
):  # fmt: skip
    for _warps in (4, 8):
        feature(f"matmul {_name}, {_warps} warps", _needs)(
            lambda d=_dtype, t=_tolerance, w=_warps: matmul(d, w, 3, t, block=64 if w == 4 else 128)
        )
feature("matmul fp32 as tf32")(lambda: matmul(torch.float32, 4, 3, 2e-3))
feature("matmul fp32 as tf32x3")(lambda: matmul(torch.float32, 4, 2, 1e-5, "tf32x3"))
feature("matmul fp32 as ieee")(lambda: matmul(torch.float32, 4, 2, 1e-5, "ieee"))
feature("matmul fp64")(lambda: matmul(torch.float64, 4, 2, 1e-12, "ieee"))
feature("matmul one stage")(lambda: matmul(torch.float16, 4, 1, 1e-5))
feature("matmul five stages")(lambda: matmul(torch.bfloat16, 4, 5, 1e-5))


@triton.jit
def dropout_kernel(x, y, n, p, seed, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    keep = tl.rand(seed, at) > p
    v = tl.load(x + at, mask=at < n)
    tl.store(y + at, tl.where(keep, v / (1 - p), 0.0), mask=at < n)
    tl.store(y + n + at, tl.randn(seed, at), mask=at < n)


@feature("random numbers")
def dropout() -> list[Pair]:
    x, y = torch.ones(1000), torch.zeros(2000)
    dropout_kernel[(4,)](x, y, 1000, 0.25, 123, BLOCK=256)
    kept = (y[:1000] != 0).double().mean()
    return [(kept.reshape(1), torch.tensor([0.75]), 0.1), (y[1000:].std().reshape(1), torch.ones(1), 0.1)]


@triton.jit
def norm_grad_kernel(dy, x, dx, total, lock, rows, columns, GROUP: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    mask = at < columns
    g = tl.load(dy + row * columns + at, mask=mask, other=0.0)
    v = tl.load(x + row * columns + at, mask=mask, other=0.0)
    scale = 1 / tl.sqrt(tl.sum(v * v, axis=0) / columns + 1e-5)
    tl.store(dx + row * columns + at, g * scale, mask=mask)
    which = row % GROUP
    lock += which
    count = lock + GROUP
    total += which * columns + at
    part = g * v * scale
    while tl.atomic_cas(lock, 0, 1) == 1:
        pass
    done = tl.load(count)
    if done == 0:
        tl.atomic_xchg(count, 1)
    else:
        part += tl.load(total, mask=mask)
    tl.store(total, part, mask=mask)
    tl.debug_barrier()
    tl.atomic_xchg(lock, 0)


@feature("sums under a lock")
def norm_grad() -> list[Pair]:
    dy, x, dx = _random(9, 100), _random(9, 100, seed=1), torch.zeros(9, 100)
    total, lock = torch.zeros(2, 100), torch.zeros(4, dtype=torch.int32)
    norm_grad_kernel[(9,)](dy, x, dx, total, lock, 9, 100, GROUP=2, BLOCK=128)
    scale = 1 / (x.square().mean(1, keepdim=True) + 1e-5).sqrt()
    return [(total.sum(0), (dy * x * scale).sum(0), 1e-5), (dx, dy * scale, 1e-6)]


@triton.jit
def attention_kernel(q, k, v, o, T, scale, D: tl.constexpr, BT: tl.constexpr, CAUSAL: tl.constexpr):
    rows = tl.program_id(0) * BT + tl.arange(0, BT)
    d = tl.arange(0, D)
    query = tl.load(q + rows[:, None] * D + d[None, :], mask=(rows < T)[:, None], other=0.0)
    top = tl.full((BT,), -float("inf"), tl.float32)
    sum_ = tl.zeros((BT,), tl.float32)
    acc = tl.zeros((BT, D), tl.float32)
    end = (tl.program_id(0) + 1) * BT if CAUSAL else T
    for start in range(0, end, BT):
        columns = start + tl.arange(0, BT)
        key = tl.load(k + columns[:, None] * D + d[None, :], mask=(columns < T)[:, None], other=0.0)
        value = tl.load(v + columns[:, None] * D + d[None, :], mask=(columns < T)[:, None], other=0.0)
        s = tl.dot(query, key.T) * scale * 1.44269504
        seen = (columns < T)[None, :]
        if CAUSAL:
            seen = seen & (rows[:, None] >= columns[None, :])
        s = tl.where(seen, s, -1.0e6)
        higher = tl.maximum(top, tl.max(s, 1))
        p = tl.math.exp2(s - higher[:, None])
        correction = tl.math.exp2(top - higher)
        sum_ = sum_ * correction + tl.sum(p, 1)
        acc = tl.dot(p.to(value.dtype), value, acc * correction[:, None])
        top = higher
    tl.store(o + rows[:, None] * D + d[None, :], (acc / sum_[:, None]).to(o.dtype.element_ty), mask=(rows < T)[:, None])


def attention(warps: int, stages: int, causal: bool, dtype: torch.dtype) -> list[Pair]:
    T, D = 150, 64
    q, k, v = (_random(T, D, seed=s).to(dtype) for s in range(3))
    o = torch.zeros(T, D)
    attention_kernel[(triton.cdiv(T, 64),)](
        q, k, v, o, T, D**-0.5, D=D, BT=64, CAUSAL=causal, num_warps=warps, num_stages=stages
    )  # fmt: skip
    s = q.double() @ k.double().T * D**-0.5
    if causal:
        s = s.masked_fill(torch.ones(T, T).triu(1) > 0, -torch.inf)
    return [(o, s.softmax(1) @ v.double(), 2e-2)]


feature("attention")(lambda: attention(4, 2, True, torch.bfloat16))
feature("attention, 8 warps")(lambda: attention(8, 3, False, torch.float16))


@triton.jit
def functions_kernel(x, y, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n)
    tl.store(y + 0 * n + at, libdevice.asin(v / 4), mask=at < n)
    tl.store(y + 1 * n + at, tl.sin(v), mask=at < n)
    tl.store(y + 2 * n + at, tl.cos(v), mask=at < n)
    tl.store(y + 3 * n + at, tl.log(tl.abs(v)), mask=at < n)
    tl.store(y + 4 * n + at, tl.erf(v), mask=at < n)
    tl.store(y + 5 * n + at, libdevice.tanh(v), mask=at < n)
    tl.store(y + 6 * n + at, tl.sigmoid(v), mask=at < n)
    tl.store(y + 7 * n + at, tl.floor(v) + tl.ceil(v) * 2, mask=at < n)
    tl.store(y + 8 * n + at, tl.rsqrt(tl.abs(v)) + tl.sqrt_rn(tl.abs(v)) + tl.div_rn(v, 3.0), mask=at < n)
    tl.store(
        y + 9 * n + at, libdevice.pow(tl.abs(v), 1.5) + libdevice.log1p(tl.abs(v)) + libdevice.expm1(v), mask=at < n
    )
    tl.store(y + 10 * n + at, libdevice.rint(v) + libdevice.trunc(v) + tl.fma(v, v, v), mask=at < n)
    tl.store(y + 11 * n + at, libdevice.fast_expf(v) + libdevice.fast_logf(tl.abs(v)), mask=at < n)


@feature("functions")
def functions() -> list[Pair]:
    x, y = _random(100).clamp(-3, 3), torch.zeros(12, 100)
    functions_kernel[(1,)](x, y, 100, BLOCK=128)
    d = x.double()
    a = d.abs()
    expected = torch.stack([
        (d / 4).asin(), d.sin(), d.cos(), a.log(), d.erf(), d.tanh(), d.sigmoid(), d.floor() + d.ceil() * 2,
        a.rsqrt() + a.sqrt() + d / 3, a**1.5 + a.log1p() + d.expm1(), d.round() + d.trunc() + d * d + d, d.exp() + a.log(),
    ])  # fmt: skip
    return [(y, expected, 1e-5)]


@triton.jit
def order_kernel(x, y, z, N: tl.constexpr):
    at = tl.arange(0, N)
    v = tl.load(x + at)
    tl.store(y + 0 * N + at, tl.sort(v))
    tl.store(y + 1 * N + at, tl.cumsum(v, 0))
    tl.store(y + 2 * N + at, tl.flip(v, 0))
    tl.store(y + 3 * N + at, tl.cumprod(1 + v / 100, 0, reverse=True))
    tl.store(z + at, tl.gather(tl.sort(v, descending=True), at ^ 1, 0))
    tl.store(z + N + at, tl.where(at == 0, tl.argmax(v, 0), tl.argmin(v, 0)).to(tl.float32))


@feature("order and scans")
def order() -> list[Pair]:
    x, y, z = _random(256), torch.zeros(4, 256), torch.zeros(2, 256)
    order_kernel[(1,)](x, y, z, N=256)
    product = (1 + x.double() / 100).flip(0).cumprod(0).flip(0)
    expected = torch.stack([x.sort().values.double(), x.double().cumsum(0), x.flip(0).double(), product])
    index = torch.full((256,), int(x.argmin()))
    index[0] = x.argmax()
    gathered = x.sort(descending=True).values[torch.arange(256) ^ 1]
    return [(y, expected, 1e-5), (z, torch.stack([gathered, index.float()]), 0)]


@triton.jit
def shapes_kernel(x, y, h, M: tl.constexpr, N: tl.constexpr):
    m, n = tl.arange(0, M), tl.arange(0, N)
    v = tl.load(x + m[:, None] * N + n[None, :])
    tl.store(y + n[:, None] * M + m[None, :], tl.trans(v))
    y += M * N
    lo, hi = tl.split(tl.reshape(v, (M, N // 2, 2)))
    tl.store(y + tl.arange(0, M * N), tl.reshape(tl.join(hi, lo), (M * N,)))
    y += M * N
    tl.store(y + m, tl.sum(v, 1))
    tl.store(y + M + n, tl.max(v, 0))
    tl.store(y + M + N + m, tl.sum(tl.reshape(v, (M, N // 4, 4)).to(tl.float64), 2).to(tl.float32).sum(1))
    tl.store(h + tl.arange(0, 16), tl.histogram(tl.reshape((tl.abs(v) * 4).to(tl.int32) % 16, (M * N,)), 16))


@feature("shapes and reductions")
def shapes() -> list[Pair]:
    M, N = 32, 64
    x, y, h = _random(M, N), torch.zeros(2 * M * N + 2 * M + N), torch.zeros(16, dtype=torch.int32)
    shapes_kernel[(1,)](x, y, h, M=M, N=N)
    swapped = x.reshape(M, N // 2, 2).flip(2).reshape(-1)
    expected = torch.cat([x.T.reshape(-1), swapped, x.sum(1), x.max(0).values, x.sum(1)])
    counts = torch.bincount((x.abs() * 4).int().reshape(-1) % 16, minlength=16)
    return [(y, expected, 1e-5), (h, counts, 0)]


@triton.jit
def atomics_kernel(x, f, i, half, old, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=0.0)
    tl.atomic_add(f + at % 7, v, mask=at < n)
    tl.atomic_max(f + 8 + at % 7, v, mask=at < n)
    tl.atomic_min(f + 16 + at % 7, v, mask=at < n)
    k = at.to(tl.int32)
    tl.atomic_add(i + at % 3, k, mask=at < n, sem="relaxed")
    tl.atomic_or(i + 4 + at % 3, k, mask=at < n)
    tl.atomic_xor(i + 8 + at % 3, k, mask=at < n)
    tl.atomic_max(i + 12 + at % 3, k, mask=at < n, scope="cta" if BLOCK == 1 else "gpu")
    tl.atomic_add(half + at % 64, (v * 0 + 1).to(half.dtype.element_ty), mask=at < n)
    tl.store(old + tl.program_id(0), tl.atomic_add(i + 16, 1))


@feature("atomics")
def atomics() -> list[Pair]:
    x, f, i = _random(500), torch.zeros(24), torch.zeros(20, dtype=torch.int32)
    pairs = []
    for dtype in (torch.float16, torch.bfloat16):
        half, old = torch.zeros(64, dtype=dtype), torch.zeros(4, dtype=torch.int32)
        f.zero_(), i.zero_()
        atomics_kernel[(4,)](x, f, i, half, old, 500, BLOCK=128)
        counts = torch.bincount(torch.arange(500) % 64, minlength=64)
        pairs += [(half, counts, 0), (old.sort().values, torch.arange(4), 0)]
    sums = torch.zeros(7, dtype=torch.float64).index_add(0, torch.arange(500) % 7, x.double())
    most = torch.stack([x[k::7].max() for k in range(7)])
    whole = torch.tensor([sum(range(k, 500, 3)) for k in range(3)])
    return [
        *pairs,
        (f[:7], sums, 1e-5),
        (f[8:15], most.clamp_min(0), 0),
        (i[:3], whole, 0),
        (i[16:17], torch.tensor([4]), 0),
    ]


@triton.jit
def convert_kernel(x, y, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n)
    tl.store(y + 0 * n + at, v.to(tl.float16).to(tl.float32), mask=at < n)
    tl.store(y + 1 * n + at, v.to(tl.bfloat16).to(tl.float32), mask=at < n)
    tl.store(y + 2 * n + at, v.to(tl.int8).to(tl.float32), mask=at < n)
    tl.store(y + 3 * n + at, v.to(tl.int64).to(tl.float32), mask=at < n)
    tl.store(y + 4 * n + at, v.to(tl.float64).to(tl.float32), mask=at < n)
    tl.store(y + 5 * n + at, (tl.abs(v)).to(tl.uint8).to(tl.float32), mask=at < n)
    tl.store(y + 6 * n + at, v.to(tl.float8e5).to(tl.float32), mask=at < n)


@feature("conversions")
def conversions() -> list[Pair]:
    x, y = _random(200) * 30, torch.zeros(7, 200)
    convert_kernel[(1,)](x, y, 200, BLOCK=256)
    rows = [
        x.half(),
        x.bfloat16(),
        x.to(torch.int8),
        x.long(),
        x.double(),
        x.abs().to(torch.uint8),
        x.to(torch.float8_e5m2),
    ]
    return [(y, torch.stack([row.double() for row in rows]), 0)]


@triton.jit
def convert_e4m3_kernel(x, y, z, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n)
    tl.store(y + at, v.to(tl.float8e4nv), mask=at < n)
    tl.store(z + at, tl.load(y + at, mask=at < n).to(tl.float16).to(tl.float32), mask=at < n)
    tl.store(z + n + at, v.to(tl.bfloat16).to(tl.float8e4nv).to(tl.bfloat16).to(tl.float32), mask=at < n)


@feature("conversions to e4m3", 89)
def conversions_e4m3() -> list[Pair]:
    x, y, z = _random(200) * 30, torch.zeros(200, dtype=torch.float8_e4m3fn), torch.zeros(2, 200)
    convert_e4m3_kernel[(1,)](x, y, z, 200, BLOCK=256)
    once = x.to(torch.float8_e4m3fn)
    return [
        (y.float(), once.float(), 0),
        (z, torch.stack([once.float(), x.bfloat16().to(torch.float8_e4m3fn).float()]), 0),
    ]


@triton.jit
def integers_kernel(x, y, n, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    v = tl.load(x + at, mask=at < n, other=1)
    w = v * 7919 + 13
    tl.store(y + 0 * n + at, w // 37, mask=at < n)
    tl.store(y + 1 * n + at, w % 37, mask=at < n)
    tl.store(y + 2 * n + at, (w.to(tl.int32) // (v.to(tl.int32) + 1000)).to(tl.int64), mask=at < n)
    tl.store(y + 3 * n + at, tl.umulhi(w.to(tl.uint32), w.to(tl.uint32) * 65521).to(tl.int64), mask=at < n)
    tl.store(y + 4 * n + at, (w.to(tl.uint32) >> 3).to(tl.int64) ^ (w << 5), mask=at < n)
    tl.store(y + 5 * n + at, libdevice.popc(w.to(tl.int32)).to(tl.int64) + libdevice.clz(w.to(tl.int32)), mask=at < n)
    tl.store(y + 6 * n + at, tl.minimum(w, 5) + tl.maximum(w.to(tl.int16), 9) + tl.abs(w.to(tl.int32)), mask=at < n)


@feature("integers")
def integers() -> list[Pair]:
    x, y = (
        torch.randint(0, 500, (200,), generator=torch.Generator().manual_seed(0)),
        torch.zeros(7, 200, dtype=torch.int64),
    )
    integers_kernel[(1,)](x, y, 200, BLOCK=256)
    w = x * 7919 + 13
    high = torch.tensor([(int(v) * (int(v) * 65521 % 2**32)) >> 32 for v in w])
    bits = torch.tensor([int(v).bit_count() + 32 - int(v).bit_length() for v in w])
    rows = [w // 37, w % 37, w // (x + 1000), high, (w >> 3) ^ (w << 5), bits]
    rows.append(w.clamp(max=5) + w.to(torch.int16).clamp(min=9) + w.abs())
    return [(y, torch.stack(rows), 0)]


@triton.jit
def descriptor_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    left = tl.make_tensor_descriptor(a, shape=[M, K], strides=[K, 1], block_shape=[BM, BK])
    right = tl.make_tensor_descriptor(b, shape=[N, K], strides=[K, 1], block_shape=[BN, BK])
    out = tl.make_tensor_descriptor(c, shape=[M, N], strides=[N, 1], block_shape=[BM, BN])
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(left.load([m, k]), right.load([n, k]).T, acc)
    out.store([m, n], acc.to(c.dtype.element_ty))


def _with_scratch(call: Callable[[], None]) -> None:
    triton.set_allocator(lambda size, alignment, stream: torch.empty(size, dtype=torch.int8))
    call()


@feature("tensor descriptors made on the device")
def descriptors() -> list[Pair]:
    M, N, K = 100, 136, 160
    a, b, c = _random(M, K).half(), _random(N, K, seed=1).half(), torch.zeros(M, N, dtype=torch.float16)
    _with_scratch(lambda: descriptor_kernel[(2, 3)](a, b, c, M, N, K, BM=64, BN=64, BK=64, num_stages=3))
    return [(c, a.double() @ b.double().T, 2e-3)]


@triton.jit
def host_descriptor_kernel(left, right, out, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    m, n = tl.program_id(0) * BM, tl.program_id(1) * BN
    acc = tl.zeros((BM, BN), tl.float32)
    for k in range(0, K, BK):
        acc = tl.dot(left.load([m, k]), right.load([n, k]).T, acc)
    out.store([m, n], acc.to(tl.float16))


@feature("tensor descriptors made on the host")
def host_descriptors() -> list[Pair]:
    M, N, K = 100, 136, 160
    a, b, c = _random(M, K).half(), _random(N, K, seed=1).half(), torch.zeros(M, N, dtype=torch.float16)
    left, right, out = (
        TensorDescriptor.from_tensor(x, block) for x, block in ((a, [64, 64]), (b, [64, 64]), (c, [64, 64]))
    )
    host_descriptor_kernel[(2, 3)](left, right, out, K, BM=64, BN=64, BK=64, num_stages=3)
    return [(c, a.double() @ b.double().T, 2e-3)]


@triton.jit
def assembly_kernel(x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    v = tl.load(x + at)
    w = tl.inline_asm_elementwise(
        "{ .reg .b32 t; shl.b32 t, $1, 3; xor.b32 $0, t, $1; }", "=r,r", [v], tl.int32, True, 1
    )
    tl.store(y + at, w)


@feature("inline assembly")
def assembly() -> list[Pair]:
    x, y = torch.arange(128, dtype=torch.int32), torch.zeros(128, dtype=torch.int32)
    assembly_kernel[(1,)](x, y, N=128)
    return [(y, (x << 3) ^ x, 0)]


@triton.jit
def persistent_kernel(a, b, c, M, N, K, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr):
    tiles_n = tl.cdiv(N, BN)
    for tile in tl.range(tl.program_id(0), tl.cdiv(M, BM) * tiles_n, tl.num_programs(0), flatten=True):
        m = tile // tiles_n * BM + tl.arange(0, BM)
        n = tile % tiles_n * BN + tl.arange(0, BN)
        k = tl.arange(0, BK)
        acc = tl.zeros((BM, BN), tl.float32)
        for start in range(tl.cdiv(K, BK)):
            left = tl.load(a + m[:, None] * K + (start * BK + k)[None, :], mask=(m < M)[:, None], other=0.0)
            right = tl.load(b + n[:, None] * K + (start * BK + k)[None, :], mask=(n < N)[:, None], other=0.0)
            acc = tl.dot(left, right.T, acc)
        tl.store(c + m[:, None] * N + n[None, :], acc.to(tl.float16), mask=(m < M)[:, None] & (n < N)[None, :])


@feature("persistent matmul")
def persistent() -> list[Pair]:
    M, N, K = 150, 136, 128
    a, b, c = _random(M, K).half(), _random(N, K, seed=1).half(), torch.zeros(M, N, dtype=torch.float16)
    persistent_kernel[(2,)](a, b, c, M, N, K, BM=64, BN=64, BK=64, num_stages=3)
    return [(c, a.double() @ b.double().T, 2e-3)]


@triton.jit
def chain_kernel(a, b, c, o, N: tl.constexpr, DTYPE: tl.constexpr):
    i = tl.arange(0, N)
    at = i[:, None] * N + i[None, :]
    x, y, z = tl.load(a + at), tl.load(b + at), tl.load(c + at)
    s = tl.dot(x, y, out_dtype=tl.float32).to(DTYPE)
    tl.store(o + at, tl.dot(s, z) + tl.dot(tl.trans(s), x))


@feature("products of products")
def chain() -> list[Pair]:
    N = 64
    a, b, c, o = (
        _random(N, N).bfloat16(),
        _random(N, N, seed=1).bfloat16(),
        _random(N, N, seed=2).bfloat16(),
        torch.zeros(N, N),
    )
    chain_kernel[(1,)](a, b, c, o, N=N, DTYPE=tl.bfloat16)
    s = (a.float() @ b.float()).bfloat16().double()
    return [(o, s @ c.double() + s.T @ a.double(), 1e-3)]
