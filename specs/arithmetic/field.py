"""Exact arithmetic without rounding: every number is an element of F_p x Z_q, held in 32 bits.

p = 2 q + 1 is a safe prime below 2^16, so the squares of F_p form a group of prime order q and exp2(x) = 4^(x in Z_q)
turns a sum in Z_q into a product in F_p. Two programs that are the same polynomial in their inputs and in
exponentials of their inputs agree in F_p for every input; two that are not disagree on a random input, but for a
chance of about degree / p per element (Schwartz-Zippel). The two-field evaluation is that of PIT with exponentials in
Mirage (arXiv 2405.05751).

A payload is a uint32: the F_p part in bits 0-15, the Z_q part in bits 16-30. Bit 31 marks values that are no elements: `NEG_INF`,
which has the bits of fp32 -inf, and `OUTSIDE`, which absorbs like NaN and says that the algebra cannot answer.

    -inf + x = -inf      -inf * x = -inf (x != 0)      exp(-inf) = 0      0 * -inf, -(-inf), -inf * -inf = OUTSIDE

The Z_q part of an exponential is a hash of its input, since exp of exp is not a homomorphism: equality is judged on
F_p.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import tagged
from .field_tables import P, Q, hashed, inverses, mod, powers

NEG_INF = np.uint32(0xFF800000)
OUTSIDE = np.uint32(0xFFC00000)  # the NaN that x86 produces itself

_LOW = np.uint32(0xFFFF)
_MARK = np.uint32(1 << 31)
_LOG2_E = 1.4426950408889634
_BLOCK = 1 << 20  # terms of one float64 dot product: _BLOCK * P**2 < 2**53

Bits = Any
"""uint32 numpy array or scalar"""


class FieldArray:
    """A numpy-like array over F_p x Z_q.

    bits: uint32 array of canonical payloads; foreign ones come in through `unpack`.
    Operands may be FieldArrays, or Python numbers, which are embedded by `constant`.
    """

    __slots__ = ("bits",)
    __array_ufunc__ = None  # numpy operands defer to the reflected operators here
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, bits: Bits) -> None:
        self.bits = np.asarray(bits)

    @property
    def shape(self) -> tuple[int, ...]:
        return self.bits.shape

    @property
    def ndim(self) -> int:
        return self.bits.ndim

    @property
    def size(self) -> int:
        return self.bits.size

    @property
    def T(self) -> FieldArray:
        return FieldArray(self.bits.T)

    def __len__(self) -> int:
        return len(self.bits)

    def __repr__(self) -> str:
        return f"FieldArray({self.bits & _LOW})"

    def __getitem__(self, index: Any) -> FieldArray:
        return FieldArray(self.bits[index])

    def reshape(self, *shape: Any) -> FieldArray:
        return FieldArray(self.bits.reshape(*shape))

    def transpose(self, *axes: Any) -> FieldArray:
        return FieldArray(self.bits.transpose(*axes))

    def swapaxes(self, first: int, second: int) -> FieldArray:
        return FieldArray(self.bits.swapaxes(first, second))

    def broadcast_to(self, shape: tuple[int, ...]) -> FieldArray:
        return FieldArray(np.broadcast_to(self.bits, shape))

    def copy(self) -> FieldArray:
        return FieldArray(self.bits.copy())

    def pack(self) -> Bits:
        """uint32 payloads, contiguous."""
        return np.ascontiguousarray(self.bits).reshape(self.bits.shape)

    def __add__(self, other: FieldArray | float) -> FieldArray:
        x, y = self.bits, _operand(other)
        low = np.add(x & _LOW, y & _LOW)
        high = np.add(x >> 16, y >> 16)
        out = np.minimum(low, np.subtract(low, P)) | np.minimum(high, np.subtract(high, Q)) << 16
        return FieldArray(_add_marked(x, y, out) if _marked(x, y) else out)

    def __sub__(self, other: FieldArray | float) -> FieldArray:
        return self + (-FieldArray(_operand(other)))

    def __mul__(self, other: FieldArray | float) -> FieldArray:
        x, y = self.bits, _operand(other)
        out = mod(np.multiply(x & _LOW, y & _LOW), P) | mod(np.multiply(x >> 16, y >> 16), Q) << 16
        return FieldArray(_mul_marked(x, y, out) if _marked(x, y) else out)

    def __neg__(self) -> FieldArray:
        x = self.bits
        low, high = x & _LOW, x >> 16
        out = np.multiply(np.subtract(P, low), low != 0) | np.multiply(np.subtract(Q, high), high != 0) << 16
        return FieldArray(np.where(x >= _MARK, OUTSIDE, out) if _marked(x) else out)

    def __truediv__(self, other: FieldArray | float) -> FieldArray:
        return self * inverse(FieldArray(_operand(other)))

    __radd__ = __add__
    __rmul__ = __mul__

    def __rsub__(self, other: float) -> FieldArray:
        return FieldArray(_operand(other)) - self

    def __rtruediv__(self, other: float) -> FieldArray:
        return inverse(self) * other

    def __matmul__(self, other: FieldArray) -> FieldArray:
        x, y = self.bits, other.bits
        if _marked(x) or _marked(y):
            return FieldArray(_matmul_marked(x, y))
        return FieldArray(_dot(x & _LOW, y & _LOW, P) | _dot(x >> 16, y >> 16, Q) << 16)

    def sum(self, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> FieldArray:
        x = self.bits
        kind: Any = {"axis": axis, "keepdims": keepdims}
        low = np.sum(x & _LOW, dtype=np.uint64, **kind) % P
        high = np.sum(x >> 16, dtype=np.uint64, **kind) % Q
        out = np.asarray(low | high << np.uint64(16)).astype(np.uint32)
        if _marked(x):
            infinite, outside = np.any(x == NEG_INF, **kind), np.any(_is_outside(x), **kind)
            out = np.where(outside, OUTSIDE, np.where(infinite, NEG_INF, out))
        return FieldArray(out)

    def cumsum(self, axis: int) -> FieldArray:
        x = self.bits
        low = np.cumsum(x & _LOW, axis=axis, dtype=np.uint64) % P
        high = np.cumsum(x >> 16, axis=axis, dtype=np.uint64) % Q
        out = (low | high << np.uint64(16)).astype(np.uint32)
        if _marked(x):
            infinite = np.logical_or.accumulate(x == NEG_INF, axis=axis)
            outside = np.logical_or.accumulate(_is_outside(x), axis=axis)
            out = np.where(outside, OUTSIDE, np.where(infinite, NEG_INF, out))
        return FieldArray(out)

    def __eq__(self, other: object) -> np.ndarray:  # type: ignore[override]
        return same(self, FieldArray(_operand(other)))

    def __ne__(self, other: object) -> np.ndarray:  # type: ignore[override]
        return ~(self == other)


def unpack(bits: Bits) -> FieldArray:
    """Payloads that come from memory: a value that is not a payload (poison, say) becomes OUTSIDE."""
    bits = np.asarray(bits, dtype=np.uint32)
    foreign = ((bits & _LOW) >= P) | ((bits >> 16) >= Q)
    if foreign.any():
        bits = np.where(foreign & (bits != NEG_INF), OUTSIDE, bits)
    return FieldArray(bits)


def same(x: FieldArray, y: FieldArray) -> np.ndarray:
    """Elementwise equality of the F_p parts; -inf equals -inf, and OUTSIDE equals nothing, itself included."""
    equal = (x.bits & _LOW) == (y.bits & _LOW)
    if _marked(x.bits) or _marked(y.bits):
        finite = (x.bits < _MARK) & (y.bits < _MARK)
        equal = np.where(finite, equal, (x.bits == NEG_INF) & (y.bits == NEG_INF))
    return equal


def outside(x: FieldArray) -> np.ndarray:
    """Where the algebra has no answer."""
    return _is_outside(x.bits)


@functools.lru_cache(maxsize=4096)
def constant_bits(value: float) -> np.uint32:
    """The payload of a number, after rounding it to fp32: m 2^e exactly, 1/2 being the inverse of 2.

    NaN and +inf are OUTSIDE.
    log2(e) and ln(2), however many digits they are written with, are one formal constant and its inverse, so that
    exp(x) and exp2(x * log2(e)) agree.
    """
    rounded = float(np.float32(value))
    if not math.isfinite(rounded):
        return NEG_INF if rounded == -math.inf else OUTSIDE
    for number, payload in ((_LOG2_E, LOG2_E), (1 / _LOG2_E, LN_2)):
        if abs(rounded - number) < 1e-6:
            return payload
    return np.uint32(tagged.payload(rounded))


def constant(value: float) -> FieldArray:
    """A scalar FieldArray; see `constant_bits`."""
    return FieldArray(constant_bits(float(value)))


def integers(values: np.ndarray) -> FieldArray:
    """Integers or booleans of any width, exactly."""
    wide = np.asarray(values)
    wide = wide.astype(np.uint64 if wide.dtype == np.uint64 else np.int64)
    return FieldArray((wide % P).astype(np.uint32) | (wide % Q).astype(np.uint32) << 16)


def random(rng: np.random.Generator, shape: tuple[int, ...]) -> FieldArray:
    """Uniform over the whole algebra."""
    low, high = rng.integers(0, P, shape, dtype=np.uint32), rng.integers(0, Q, shape, dtype=np.uint32)
    return FieldArray(low | high << 16)


def exp2(x: FieldArray) -> FieldArray:
    bits = x.bits
    out = np.take(powers(), bits >> 16) | mod(hashed("exp2", bits), Q) << 16
    if _marked(bits):
        out = np.where(bits < _MARK, out, np.where(bits == NEG_INF, np.uint32(0), OUTSIDE))
    return FieldArray(out)


def exp(x: FieldArray) -> FieldArray:
    return exp2(x * FieldArray(LOG2_E))


def inverse(x: FieldArray) -> FieldArray:
    """1 / x; OUTSIDE for 0 and for a value that is no element. A zero part of a number that is not zero has the inverse 0."""
    bits = x.bits
    low, high = inverses(P), inverses(Q)
    out = np.take(low, bits & _LOW) | np.take(high, bits >> 16) << 16
    return FieldArray(np.where((bits == 0) | (bits >= _MARK), OUTSIDE, out))


def rsqrt(x: FieldArray) -> FieldArray:
    """A tagged operation (see `specs.arithmetic.tagged`)."""
    return _elementwise(tagged.rsqrt, x)


def sqrt(x: FieldArray) -> FieldArray:
    return inverse(rsqrt(x))


def log2(x: FieldArray) -> FieldArray:
    """A tagged operation, like `rsqrt`."""
    return _elementwise(tagged.log2, x)


def log(x: FieldArray) -> FieldArray:
    return log2(x) * FieldArray(LN_2)


def softplus(x: FieldArray) -> FieldArray:
    return log(exp(x) + 1.0)


def sigmoid(x: FieldArray) -> FieldArray:
    """exp(x - softplus(x)), the form without overflow; it is 1 / (1 + exp(-x)) where 1 + exp(x) has a logarithm.

    For a value that `logit` has returned, the argument of `logit`."""
    formal = exp(x - softplus(x)).bits
    known = [_LOGITS.get(bits, -1) for bits in x.bits.ravel().tolist()] if _LOGITS else []
    if any(bits >= 0 for bits in known):
        given = np.array(known, dtype=np.int64).reshape(x.shape)
        formal = np.where(given < 0, formal, given).astype(np.uint32)
    return FieldArray(formal)


def logit(x: FieldArray) -> FieldArray:
    """A tagged operation, like `rsqrt`, that `sigmoid` undoes."""
    raw = _elementwise(lambda bits: tagged.tagged("logit", bits), x)
    pairs = zip(raw.bits.ravel().tolist(), x.bits.ravel().tolist(), strict=True)
    _LOGITS.update((bits, given) for bits, given in pairs if bits < _MARK)
    return raw


def concatenate(arrays: Sequence[FieldArray], axis: int = 0) -> FieldArray:
    return FieldArray(np.concatenate([array.bits for array in arrays], axis))


def _operand(value: Any) -> Bits:
    if isinstance(value, FieldArray):
        return value.bits
    if isinstance(value, (int, float)):
        return np.asarray(constant_bits(float(value)))
    raise TypeError(
        f"a FieldArray or a Python number is needed, not {type(value).__name__}: embed arrays with `FIELD.array`"
    )


def _dot(x: np.ndarray, y: np.ndarray, modulus: int) -> Bits:
    # float64 BLAS: every partial sum is an integer below 2**53
    total: Any = np.uint64(0)
    for start in range(0, max(x.shape[-1], 1), _BLOCK):
        left = x[..., start : start + _BLOCK].astype(np.float64)
        right = (y[..., start : start + _BLOCK, :] if y.ndim > 1 else y[start : start + _BLOCK]).astype(np.float64)
        total = total + np.asarray(np.matmul(left, right)).astype(np.uint64)
    return np.asarray(mod(total, modulus)).astype(np.uint32)


def _marked(*arrays: Bits) -> bool:
    return any(array.size and int(array.max()) >= _MARK for array in arrays)


def _is_outside(bits: Bits) -> np.ndarray:
    return (bits >= _MARK) & (bits != NEG_INF)


def _add_marked(x: Bits, y: Bits, out: Bits) -> Bits:
    out = np.where((x == NEG_INF) | (y == NEG_INF), NEG_INF, out)
    return np.where(_is_outside(x) | _is_outside(y), OUTSIDE, out)


def _mul_marked(x: Bits, y: Bits, out: Bits) -> Bits:
    infinite = ((x == NEG_INF) & (y < _MARK) & (y != 0)) | ((y == NEG_INF) & (x < _MARK) & (x != 0))
    return np.where(infinite, NEG_INF, np.where((x >= _MARK) | (y >= _MARK), OUTSIDE, out))


def _matmul_marked(x: Bits, y: Bits) -> Bits:
    def meet(left: np.ndarray, right: np.ndarray) -> np.ndarray:
        return np.matmul(left.astype(np.float32), right.astype(np.float32)) > 0

    clean = FieldArray(np.where(x < _MARK, x, np.uint32(0))) @ FieldArray(np.where(y < _MARK, y, np.uint32(0)))
    x_inf, y_inf, x_finite, y_finite = x == NEG_INF, y == NEG_INF, x < _MARK, y < _MARK
    infinite = meet(x_inf, y_finite & (y != 0)) | meet(x_finite & (x != 0), y_inf)
    lost = meet(x_inf, (y == 0) | ~y_finite) | meet((x == 0) | ~x_finite, y_inf)
    lost |= meet(_is_outside(x), np.ones_like(y_inf)) | meet(np.ones_like(x_inf), _is_outside(y))
    return np.where(lost, OUTSIDE, np.where(infinite, NEG_INF, clean.bits))


def has_logarithm(x: FieldArray) -> np.ndarray:
    """Where exp2(log2(x)) is x."""
    return tagged.has_logarithm(x.bits) & (x.bits < _MARK)


def _elementwise(operation: Callable[[Bits], Bits], x: FieldArray) -> FieldArray:
    """A tagged operation, on elements only."""
    bits = x.bits
    out = operation(np.where(bits < _MARK, bits, np.uint32(0)) if _marked(bits) else bits)
    return FieldArray(np.where(bits < _MARK, out, OUTSIDE))


LOG2_E = np.uint32(tagged.tagged("log2(e)", np.zeros((), np.uint32)))
LN_2 = np.uint32(pow(int(LOG2_E & _LOW), -1, P) | pow(int(LOG2_E >> 16), -1, Q) << 16)
"""The payloads of log2(e) and ln(2)."""


_LOGITS: dict[int, int] = {}
"""Results of `logit`, with their arguments."""


def forget_logits() -> None:
    """From here on `sigmoid` undoes no `logit` of before. (Threads of a call share the logits, hence no ContextVar.)"""
    _LOGITS.clear()


class Field:
    """The number system of the exact mode (a `Numbers`), for the oracle."""

    exp = staticmethod(exp)
    rsqrt = staticmethod(rsqrt)
    softplus = staticmethod(softplus)
    sigmoid = staticmethod(sigmoid)
    constant = staticmethod(constant)
    concatenate = staticmethod(concatenate)

    def zeros(self, shape: tuple[int, ...]) -> FieldArray:
        return FieldArray(np.zeros(shape, dtype=np.uint32))

    def array(self, values: Any) -> FieldArray:
        """FieldArrays as they are; floats embedded one by one by `constant`."""
        if isinstance(values, FieldArray):
            return values
        values = np.asarray(values)
        flat = np.array([constant_bits(float(value)) for value in values.ravel()], dtype=np.uint32)
        return FieldArray(flat.reshape(values.shape))

    def at(self, site: str, x: FieldArray) -> FieldArray:
        return x


FIELD = Field()
