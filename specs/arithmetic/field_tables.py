"""The moduli of the exact mode, and tables and operations modulo them, on plain numpy arrays."""

from __future__ import annotations

import functools
import hashlib
from typing import Any

import numpy as np

P = 65267
Q = 32633
BASE = 4  # a square other than 1, hence of order Q modulo P = 2 Q + 1

Array = Any
"""uint32 numpy array or scalar"""


def mod(x: Array, modulus: int) -> Array:
    """x modulo a number, for unsigned x."""
    # numpy vectorises integer division by a scalar, and not the remainder
    return np.subtract(x, np.multiply(np.floor_divide(x, modulus), modulus))


def hashed(tag: str, bits: Array) -> Array:
    """32 bits that depend on the input and on the name of the operation (the finaliser of MurmurHash3)."""
    mixed = np.bitwise_xor(bits, _seed(tag))
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        mixed = np.multiply(np.bitwise_xor(mixed, mixed >> shift), np.uint32(factor))
    return np.bitwise_xor(mixed, mixed >> 16)


@functools.cache
def _seed(tag: str) -> np.uint32:
    return np.uint32(int.from_bytes(hashlib.sha256(tag.encode()).digest()[:4], "little"))


@functools.cache
def powers() -> Array:
    """BASE ** i in F_p by i; 0 from Q on, where only marked inputs look."""
    table = np.zeros(1 << 16, dtype=np.uint32)
    power = 1
    for i in range(Q):
        table[i] = power
        power = power * BASE % P
    return table


@functools.cache
def inverses(modulus: int) -> Array:
    """1 / i modulo a prime by i; 0 for 0 and beyond the modulus."""
    table = [0, 1]
    for i in range(2, modulus):
        table.append((modulus - modulus // i) * table[modulus % i] % modulus)
    return np.array(table + [0] * ((1 << 16) - modulus), dtype=np.uint32)
