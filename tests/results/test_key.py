"""Buckets: which sizes are the same question."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deltaproof.results.schema.key import OPTIONS, Key, bucket

FIELDS = {"op": "chunk_fwd", "rule": "gdn2", "dtype": "bf16", "K": 128, "V": 128}


@given(st.integers(1, 2**39))
def test_a_bucket_is_the_nearest_power_of_two(count: int):
    found = bucket(count)
    assert found & (found - 1) == 0
    assert abs(math.log2(count / found)) <= 0.5


@pytest.mark.parametrize(
    ("count", "expected"), [(0, 1), (1, 1), (2, 2), (3, 4), (5, 4), (6, 8), (8192, 8192), (11585, 8192), (11586, 16384)]
)
def test_boundaries_lie_at_the_geometric_mean(count: int, expected: int):
    assert bucket(count) == expected


@pytest.mark.parametrize(
    "wrong",
    [
        {"op": ""},
        {"op": "a b"},
        {"rule": "../x"},
        {"dtype": "float32"},
        {"K": -1},
        {"tokens": 3},
        {"heads": -2},
        {"tokens": 1 << 60},
        {"options": ("state", "varlen")},
        {"options": ("other",)},
        {"options": ("state", "state")},
    ],
)
def test_a_key_holds_only_what_can_be_asked(wrong: dict):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Key(**FIELDS | wrong)


def test_keys_sort_by_their_fields():
    small, large = Key(**FIELDS, tokens=64), Key(**FIELDS, tokens=128)
    assert sorted([large, small]) == [small, large]
    assert (
        str(Key(**FIELDS, options=OPTIONS[:2], tokens=64, heads=8))
        == "chunk_fwd:gdn2:bf16:k128:v128+varlen+state:t64:h8"
    )
