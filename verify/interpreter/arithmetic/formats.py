"""Rounding to the float formats that numpy lacks: bfloat16 (held as uint16) and TF32 (held as float32)."""

from __future__ import annotations

import numpy as np


def widen_bf16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits (uint16) -> float32, exactly."""
    return np.left_shift(bits, 16, dtype=np.uint32).view(np.float32)


def round_bf16(values: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 bits, to nearest even; subnormals are kept and NaN becomes the quiet NaN."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> 16) & np.uint32(1))) >> 16).astype(np.uint16)
    return np.where(_is_nan(bits), np.uint16(0x7FC0), rounded)


def truncate_bf16(values: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 bits, toward zero."""
    bits = np.asarray(values, dtype=np.float32).view(np.uint32)
    return np.where(_is_nan(bits), np.uint16(0x7FC0), (bits >> 16).astype(np.uint16))


def round_tf32(values: np.ndarray) -> np.ndarray:
    """float32 with the last 13 mantissa bits rounded away, ties away from zero (PTX cvt.rna.tf32.f32)."""
    bits = values.view(np.uint32)
    special = (bits & np.uint32(0x7F800000)) == np.uint32(0x7F800000)
    return np.where(special, bits, (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)).view(np.float32)


def _is_nan(bits: np.ndarray) -> np.ndarray:
    return (bits & np.uint32(0x7FFFFFFF)) > np.uint32(0x7F800000)
