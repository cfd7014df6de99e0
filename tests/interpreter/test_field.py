"""The algebra of the exact mode: ring laws, exponentials, -inf and what lies outside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deltaproof.specs.arithmetic import field
from deltaproof.specs.arithmetic.field import FIELD, NEG_INF, OUTSIDE, FieldArray, constant, same

seeds = st.integers(0, 2**32 - 1)
INF, LOST = FieldArray(NEG_INF), FieldArray(OUTSIDE)


def elements(seed, *shape):
    return field.random(np.random.default_rng(seed), shape)


def identical(x, y):
    return np.array_equal(x.bits, y.bits)


@given(seeds)
def test_ring_laws(seed):
    x, y, z = (elements(seed + i, 5, 7) for i in range(3))
    assert identical(x + y, y + x) and identical((x + y) + z, x + (y + z))
    assert identical(x * y, y * x) and identical((x * y) * z, x * (y * z))
    assert identical(x * (y + z), x * y + x * z)
    assert identical(x - y, x + (-y)) and identical(0 - (-x), x)
    assert not (x - x).bits.any()
    invertible = (y.bits & 0xFFFF) != 0
    assert same(x / y * y, x)[invertible].all()


@given(seeds)
def test_contractions_are_sums_of_products(seed):
    x, y = elements(seed, 3, 4, 6), elements(seed + 1, 3, 6, 5)
    product = x @ y
    assert identical(product, (x[..., None] * y[:, None]).sum(axis=2))
    assert identical(x.sum(axis=-1), x.cumsum(axis=-1)[..., -1])
    assert identical(x.sum(axis=(0, 2), keepdims=True), x.sum(axis=2).sum(axis=0).reshape(1, 4, 1))


def test_long_dot_product_stays_exact():
    n = 3 << 19  # more than one block
    top = FieldArray(np.full((1, n), (field.P - 1) | (field.Q - 1) << 16, dtype=np.uint32))
    assert identical((top @ top.reshape(n, 1))[0, 0], constant(n))


@given(seeds)
def test_exponentials_turn_sums_into_products(seed):
    x, y = elements(seed, 9), elements(seed + 1, 9)
    assert same(field.exp2(x + y), field.exp2(x) * field.exp2(y)).all()
    assert same(field.exp(x), field.exp2(x * 1.44269504)).all()
    assert same(field.sigmoid(x) * field.exp(field.softplus(x)), field.exp(x)).all()
    assert identical(field.softplus(x), field.log(1 + field.exp(x)))
    assert same(field.log2(x) * 0.6931471805599453, field.log(x)).all()
    # the exponential of an exponential still depends on its input
    assert not same(field.exp(field.exp(x)), field.exp(field.exp(y))).all()


@given(st.integers(-(2**24), 2**24), st.integers(-(2**24), 2**24), st.integers(0, 20))
def test_dyadic_constants_are_exact(a, b, shift):
    x, y = a / 2**shift, b / 2**shift
    assert constant(x) * 2.0**shift == constant(a)
    assert constant(x) + constant(y) == constant(a + b) / 2.0**shift
    assert field.integers(np.array([a, b]))[0] == constant(a)


def test_written_digits_of_the_exponential_base_do_not_matter():
    assert constant(1.44269504) == constant(1.4426950408889634)
    assert constant(0.69314718) * constant(1.442695) == constant(1)
    assert constant(1.4427 * 1.001) != constant(1.4426950408889634)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (INF + 3, INF),
        (3 + INF, INF),
        (INF + INF, INF),
        (INF * 2, INF),
        (field.exp(INF), constant(0)),
        (field.exp2(INF * 1.5), constant(0)),
        (elements(0, 4).sum() + INF, INF),
        (INF * 0, LOST),
        (-INF, LOST),
        (INF - INF, LOST),
        (INF * INF, LOST),
        (field.inverse(constant(0)), LOST),
        (constant(float("inf")), LOST),
        (constant(float("nan")), LOST),
        (LOST * 0, LOST),
        (LOST + 1, LOST),
        (field.rsqrt(LOST), LOST),
        (field.exp(LOST), LOST),
    ],
)
def test_minus_infinity_and_outside(value, expected):
    assert identical(value, expected)


def test_marked_elements_in_reductions_and_dots():
    x, y = elements(1, 4, 4), elements(2, 4, 4)
    x.bits[1, 2] = NEG_INF
    y.bits[2, 3] = 0
    product = x @ y
    assert (product.bits[1, :3] == NEG_INF).all() and product.bits[1, 3] == OUTSIDE
    clean = [0, 2, 3]
    assert identical(product[clean], x[clean] @ y)
    assert (x.cumsum(axis=1).bits[1, 2:] == NEG_INF).all() and x.sum(axis=1).bits[1] == NEG_INF
    x.bits[1, 3] = OUTSIDE
    assert x.sum(axis=1).bits[1] == OUTSIDE and field.outside(x @ y)[1].all()


def test_equality_is_that_of_the_prime_field_and_never_of_lost_values():
    assert same(FieldArray(np.uint32(5)), FieldArray(np.uint32(5 | 7 << 16)))
    assert same(INF, INF) and not same(INF, constant(1))
    assert not same(LOST, LOST)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=20))
@settings(max_examples=50)
def test_what_is_no_payload_is_outside(patterns):
    bits = np.array(patterns, dtype=np.uint32)
    unpacked = field.unpack(bits)
    valid = ((bits & 0xFFFF) < field.P) & (bits >> 16 < field.Q) | (bits == NEG_INF)
    assert np.array_equal(unpacked.pack()[valid], bits[valid])
    assert (unpacked.bits[~valid] == OUTSIDE).all()


def test_the_oracle_runs_over_the_field():
    """A first-order recurrence and its closed form agree, exponentials and all."""
    g, x = elements(3, 6), elements(4, 6)
    state = FIELD.zeros(())
    for t in range(6):
        state = state * FIELD.exp(g[t]) + x[t]
    after = FIELD.concatenate([g.sum()[None] - g.cumsum(0)], -1)
    assert same(state, (FIELD.exp(after) * x).sum())
