"""Instructions against numpy and Python's integers, on drawn values."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaproof.verify.ptx.errors import UnknownInstruction
from deltaproof.verify.ptx.schedules import QUICK, ROUND_ROBIN

from .small import verdict

LOAD = (
    "cvt.u64.u32 %d4, %r2; add.s64 %d5, %d0, %d4; ld.global.b32 %r10, [%d5]; ld.global.b32 %r11, [%d5+128];"
    " ld.global.b32 %r12, [%d5+256];"
)
STORE = "add.s64 %d6, %d1, %d4; st.global.b32 [%d6], %r13;"


def computed(instruction: str, *operands: np.ndarray) -> np.ndarray:
    """%r13 = instruction of %r10, %r11 and %r12, for 32 threads."""
    values = np.zeros((3, 32), np.uint32)
    for row, operand in zip(values, operands, strict=False):
        row[:] = operand.view(np.uint32)
    out = np.zeros(32, np.uint32)
    found = verdict(LOAD + instruction + STORE, values, out, threads=32, schedules=[ROUND_ROBIN])
    assert not found.findings
    return out


words = st.lists(st.integers(0, 2**32 - 1), min_size=32, max_size=32).map(lambda v: np.array(v, np.uint32))
floats = st.lists(st.floats(width=32, allow_nan=False), min_size=32, max_size=32).map(lambda v: np.array(v, np.float32))


def signed(value: int) -> int:
    return value - 2**32 if value >= 2**31 else value


INTEGER = {
    "add.s32 %r13, %r10, %r11;": lambda a, b, c: a + b,
    "sub.s32 %r13, %r10, %r11;": lambda a, b, c: a - b,
    "mad.lo.s32 %r13, %r10, %r11, %r12;": lambda a, b, c: a * b + c,
    "mul.hi.u32 %r13, %r10, %r11;": lambda a, b, c: a * b >> 32,
    "mul.hi.s32 %r13, %r10, %r11;": lambda a, b, c: signed(a) * signed(b) >> 32,
    "min.s32 %r13, %r10, %r11;": lambda a, b, c: min(signed(a), signed(b)),
    "max.u32 %r13, %r10, %r11;": lambda a, b, c: max(a, b),
    "and.b32 %r11, %r11, 31; shl.b32 %r13, %r10, %r11;": lambda a, b, c: a << (b & 31),
    "shr.s32 %r13, %r10, %r11;": lambda a, b, c: signed(a) >> min(b, 31),
    "shr.u32 %r13, %r10, %r11;": lambda a, b, c: a >> min(b, 32),
    "popc.b32 %r13, %r10;": lambda a, b, c: a.bit_count(),
    "clz.b32 %r13, %r10;": lambda a, b, c: 32 - a.bit_length(),
    "brev.b32 %r13, %r10;": lambda a, b, c: int(f"{a:032b}"[::-1], 2),
    "lop3.b32 %r13, %r10, %r11, %r12, 0x96;": lambda a, b, c: a ^ b ^ c,
    "shf.l.wrap.b32 %r13, %r10, %r11, %r12;": lambda a, b, c: (b << 32 | a) << (c & 31) >> 32,
    "bfe.u32 %r13, %r10, 5, 9;": lambda a, b, c: a >> 5 & 511,
    "bfe.s32 %r13, %r10, 20, 30;": lambda a, b, c: signed(a) >> 20,
    "bfi.b32 %r13, %r10, %r11, 8, 4;": lambda a, b, c: b & ~0xF00 | (a & 15) << 8,
    "prmt.b32 %r13, %r10, %r11, 0x5410;": lambda a, b, c: a & 0xFFFF | (b & 0xFFFF) << 16,
    "add.cc.u32 %r14, %r10, %r11; addc.u32 %r13, %r12, 0;": lambda a, b, c: c + (a + b >> 32),
    "mad.lo.cc.u32 %r14, %r10, %r11, %r12; madc.hi.u32 %r13, %r10, %r11, 7;":
        lambda a, b, c: (a * b >> 32) + 7 + ((a * b & 0xFFFFFFFF) + c >> 32),
    "setp.lt.s32 %p1, %r10, %r11; selp.b32 %r13, %r10, %r12, %p1;": lambda a, b, c: a if signed(a) < signed(b) else c,
    "dp4a.u32.u32 %r13, %r10, %r11, %r12;": lambda a, b, c: c + sum((a >> 8 * k & 255) * (b >> 8 * k & 255) for k in range(4)),
    "mul.wide.u32 %d7, %r10, %r11; cvt.u32.u64 %r13, %d7;": lambda a, b, c: a * b,
    "cvt.s64.s32 %d7, %r10; shr.u64 %d7, %d7, 32; cvt.u32.u64 %r13, %d7;": lambda a, b, c: signed(a) >> 32,
    "mov.b32 {%h1, %h2}, %r10; mov.b32 %r13, {%h2, %h1};": lambda a, b, c: a >> 16 | a << 16,
    "rem.u32 %r13, %r10, 37;": lambda a, b, c: a % 37,
    "div.s32 %r13, %r10, 7;": lambda a, b, c: int(math.copysign(abs(signed(a)) // 7, signed(a))),
}  # fmt: skip


@pytest.mark.parametrize("instruction", INTEGER)
@settings(max_examples=10)
@given(a=words, b=words, c=words)
def test_integers(instruction: str, a: np.ndarray, b: np.ndarray, c: np.ndarray):
    expected = [INTEGER[instruction](*map(int, each)) % 2**32 for each in zip(a, b, c, strict=True)]
    np.testing.assert_array_equal(computed(instruction, a, b, c), np.array(expected, np.uint32))


FLOAT = {
    "add.f32": lambda a, b: a + b, "mul.rn.f32": lambda a, b: a * b, "sub.f32": lambda a, b: a - b,
    "div.rn.f32": lambda a, b: a / b, "min.f32": np.fmin, "max.f32": np.fmax,
}  # fmt: skip


@pytest.mark.parametrize("name", FLOAT)
@settings(max_examples=10)
@given(a=floats, b=floats)
def test_floats(name: str, a: np.ndarray, b: np.ndarray):
    with np.errstate(all="ignore"):
        expected = FLOAT[name](a, b)
    got = computed(f"{name} %r13, %r10, %r11;", a, b).view(np.float32)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(expected))
    there = ~np.isnan(expected)
    np.testing.assert_array_equal(got[there], expected[there])


@settings(max_examples=20)
@given(a=floats, b=floats, c=floats)
def test_fma_is_rounded_once(a: np.ndarray, b: np.ndarray, c: np.ndarray):
    from fractions import Fraction

    got = computed("fma.rn.f32 %r13, %r10, %r11, %r12;", a, b, c).view(np.float32)
    for x, y, z, r in zip(a, b, c, got, strict=True):
        if not all(map(np.isfinite, (x, y, z, r))):
            continue
        exact = Fraction(float(x)) * Fraction(float(y)) + Fraction(float(z))
        near = [
            Fraction(float(v))
            for v in (r, np.nextafter(r, np.float32(np.inf)), np.nextafter(r, np.float32(-np.inf)))
            if np.isfinite(v)
        ]
        assert abs(near[0] - exact) == min(abs(v - exact) for v in near)


@settings(max_examples=20)
@given(a=floats, b=floats)
def test_halves(a: np.ndarray, b: np.ndarray):
    with np.errstate(all="ignore"):
        x, y = a.astype(np.float16), b.astype(np.float16)
        expected = np.stack([x * y, x + y])
    low = "cvt.rn.f16.f32 %h1, %r10; cvt.rn.f16.f32 %h2, %r11; {} mov.b32 %r13, {%h3, %h3}; and.b32 %r13, %r13, 65535;"
    for row, operation in zip(expected, ("mul.f16 %h3, %h1, %h2;", "add.f16 %h3, %h1, %h2;"), strict=True):
        got = computed(low.replace("{}", operation), a, b).astype(np.uint16).view(np.float16)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(row))
        np.testing.assert_array_equal(got[~np.isnan(row)], row[~np.isnan(row)])


@settings(max_examples=20)
@given(a=floats)
def test_conversions_to_small_formats(a: np.ndarray):
    import torch

    real = torch.from_numpy(a)
    bf16 = real.bfloat16().view(torch.int16).numpy().view(np.uint16)
    np.testing.assert_array_equal(computed("cvt.rn.bf16.f32 %h1, %r10; mov.b32 %r13, {%h1, 0};", a), bf16)
    for name, dtype, most in (("e4m3", torch.float8_e4m3fn, 448), ("e5m2", torch.float8_e5m2, 57344)):
        expected = real.clamp(-most, most).to(dtype).view(torch.uint8).numpy()
        got = computed(
            f"cvt.rn.satfinite.{name}x2.f32 %h1, %r10, %r10; mov.b32 %r13, {{%h1, 0}}; and.b32 %r13, %r13, 255;", a
        )
        np.testing.assert_array_equal(got, expected)


@settings(max_examples=20)
@given(a=st.lists(st.floats(-140, 120, width=32), min_size=32, max_size=32).map(lambda v: np.array(v, np.float32)))
def test_exponential_is_within_the_bound_of_the_isa(a: np.ndarray):
    got = computed("ex2.approx.ftz.f32 %r13, %r10;", a).view(np.float32).astype(np.float64)
    expected = np.exp2(a.astype(np.float64))
    expected[expected < 2.0**-126] = 0
    assert (np.abs(got - expected) <= 2.0**-22.5 * expected + 2.0**-126).all()


def test_shuffles_and_votes():
    lanes = np.arange(32, dtype=np.uint32)
    np.testing.assert_array_equal(computed("shfl.sync.bfly.b32 %r13, %r10, 3, 31, -1;", lanes), lanes ^ 3)
    up = np.where(lanes >= 5, lanes - 5, lanes)
    np.testing.assert_array_equal(computed("shfl.sync.up.b32 %r13, %r10, 5, 0, -1;", lanes), up)
    quarter = np.where(lanes % 8 + 3 < 8, lanes + 3, lanes)
    np.testing.assert_array_equal(computed("shfl.sync.down.b32 %r13, %r10, 3, 0x1807, -1;", lanes), quarter)
    ballot = computed("setp.gt.u32 %p1, %r10, 11; vote.sync.ballot.b32 %r13, %p1, -1;", lanes)
    assert (ballot == 0xFFFFF000).all()
    assert (computed("redux.sync.add.s32 %r13, %r10, -1;", lanes) == lanes.sum()).all()


@pytest.mark.parametrize(
    "instruction",
    ["tcgen05.wait::ld.sync.aligned;", "video.add %r1, %r2;", "add.rn.relu.f32 %r13, %r10, %r11;", "mul.f32x4 %r1, %r2, %r3;",
     "cp.async.bulk.tensor.2d.shared::cluster.global.im2col.mbarrier::complete_tx::bytes [%r1], [%d1, {%r2, %r3}], [%r4];"],
)  # fmt: skip
def test_what_is_not_known_is_named(instruction: str):
    with pytest.raises(UnknownInstruction) as caught:
        verdict(instruction, schedules=QUICK)
    assert caught.value.opcode == instruction.split()[0].rstrip(";")
    assert "\n" not in str(caught.value)
