"""Operations that no polynomial expresses, as functions of payloads: a hash of the input that is the same wherever it is used.

Known values are computed. The root of a small integer is the constant that a program would have written, log2 of a power of two
is its exponent, and a power of 4 modulo p has its logarithm, so that exp2(log2(x)) is x. `meeting` tells the values to which an
operation was applied: two forms of one function (log(1 + exp(x)), x + log(1 + exp(-x))) are applied to different values.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from fractions import Fraction
from typing import Any

import numpy as np

from .field_tables import BASE, P, Q, hashed, mod

Bits = Any
"""uint32 numpy array or scalar of payloads that are elements"""

Applications = set[tuple[str, int]]
"""(operation, payload that it was applied to)"""

_LARGEST = 1 << 12
"""Integers up to here, head dimensions and numbers of tokens, have roots that are known."""

_meeting: ContextVar[Applications | None] = ContextVar("meeting", default=None)


@contextmanager
def meeting() -> Iterator[Applications]:
    """The applications of tagged operations to values that are not known, while the context lasts."""
    found: Applications = set()
    token = _meeting.set(found)
    try:
        yield found
    finally:
        _meeting.reset(token)


def tagged(tag: str, bits: Bits, known: Bits | None = None) -> Bits:
    """Hashes of payloads, into both parts. known: where the answer is known, and needs no record."""
    seen = _meeting.get()
    if seen is not None:
        unknown = np.asarray(bits if known is None else np.asarray(bits)[~np.asarray(known)])
        seen.update((tag, payload) for payload in np.unique(unknown).tolist())
    return mod(hashed(f"{tag} in F_p", bits), P) | mod(hashed(f"{tag} in Z_q", bits), Q) << 16


def rsqrt(bits: Bits) -> Bits:
    """1 / sqrt(x); of a small integer the number in fp32."""
    integers, roots = _roots()
    place = np.minimum(np.searchsorted(integers, bits), len(integers) - 1)
    known = integers[place] == bits
    return np.where(known, roots[place], tagged("rsqrt", bits, known))


def log2(bits: Bits) -> Bits:
    """The logarithm: its F_p part is formal, its Z_q part that of the F_p part of x, where there is one."""
    integers, exponents = _powers_of_two()
    place = np.minimum(np.searchsorted(integers, bits), len(integers) - 1)
    known = integers[place] == bits
    formal, logarithm = tagged("log2", bits, known), logarithms()[np.bitwise_and(bits, 0xFFFF)]
    formal = np.where(logarithm < Q, (formal & np.uint32(0xFFFF)) | logarithm << np.uint32(16), formal)
    return np.where(known, exponents[place], formal)


def has_logarithm(bits: Bits) -> Bits:
    """Where exp2(log2(x)) is x."""
    return logarithms()[np.bitwise_and(bits, 0xFFFF)] < Q


@functools.cache
def logarithms() -> Bits:
    """To base 4 modulo p, by the F_p part; Q where there is none."""
    table = np.full(1 << 16, Q, dtype=np.uint32)
    power = 1
    for exponent in range(Q):
        table[power] = exponent
        power = power * BASE % P
    return table


def payload(value: Fraction | int | float) -> int:
    """The payload of a number, m 2^e exactly, 1/2 being the inverse of 2."""
    numerator, denominator = Fraction(value).as_integer_ratio()
    low = numerator * pow(denominator, -1, P) % P
    return low | numerator * pow(denominator, -1, Q) % Q << 16


@functools.cache
def _roots() -> tuple[Bits, Bits]:
    """(payloads of the integers from 1 on, sorted; those of their inverse roots as fp32 has them)."""
    pairs = sorted((payload(n), payload(float(np.float32(n**-0.5)))) for n in range(1, _LARGEST + 1))
    return _columns(pairs)


@functools.cache
def _powers_of_two() -> tuple[Bits, Bits]:
    return _columns(sorted((payload(Fraction(2) ** n), payload(n)) for n in range(-24, 25)))


def _columns(pairs: list[tuple[int, int]]) -> tuple[Bits, Bits]:
    left, right = zip(*pairs, strict=True)
    return np.array(left, dtype=np.uint32), np.array(right, dtype=np.uint32)
