"""What a kernel tells the compiler of its numbers is held against them: every false hint is found, and no true one."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

from deltaproof.verify.interpreter import session


@triton.jit
def _hinting_kernel(x, o, n, step, WHAT: tl.constexpr, VALUE: tl.constexpr, BLOCK: tl.constexpr):
    """o = x, with a hint about the columns of a block, their first one, or the step."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if WHAT == "multiple":
        at = tl.multiple_of(at * step, VALUE)
    elif WHAT == "contiguous":
        at = tl.max_contiguous(at * step, VALUE)
    elif WHAT == "wrapped":
        at = tl.max_contiguous(tl.multiple_of(at % n, VALUE), VALUE)
    elif WHAT == "scalar":
        step = tl.multiple_of(step, VALUE)
    elif WHAT == "constant":
        step += tl.sum(tl.max_constancy(at // step, VALUE)) * 0
    elif WHAT == "rows":
        both = tl.max_contiguous(at[:, None] * n + tl.arange(0, 16)[None, :] * step, (1, VALUE))
        step += tl.sum(both) * 0
    elif WHAT == "assumed":
        tl.assume(step % VALUE == 0)
    tl.store(o + at, tl.load(x + at, mask=at < n), mask=at < n)


def found(what: str, value: int, *, n: int = 64, step: int = 1) -> list[str]:
    x = torch.randn(n)
    with session(memory=True) as watched:
        _hinting_kernel[(4,)](x, torch.empty(n), n, step, what, value, BLOCK=16)  # pyright: ignore[reportArgumentType]
    return [str(fault) for fault in watched.faults]


@pytest.mark.parametrize(
    ("what", "value", "sizes"),
    [
        ("multiple", 16, {}),
        ("multiple", 2, {"step": 2}),
        ("contiguous", 16, {}),
        ("contiguous", 64, {}),
        ("wrapped", 16, {"n": 48}),
        ("scalar", 8, {"step": 24}),
        ("constant", 8, {"step": 8}),
        ("rows", 16, {}),
        ("assumed", 8, {"step": 24}),
    ],
)
def test_a_true_hint_is_none_of_our_business(what: str, value: int, sizes: dict[str, int]):
    assert found(what, value, **sizes) == []


@pytest.mark.parametrize(
    ("what", "value", "sizes"),
    [
        ("multiple", 16, {"step": 2}),
        ("multiple", 32, {}),
        ("contiguous", 16, {"step": 2}),
        ("wrapped", 16, {"n": 41}),
        ("scalar", 16, {"step": 24}),
        ("constant", 16, {"step": 8}),
        ("rows", 16, {"step": 2}),
    ],
)
def test_a_false_hint_is_found_with_its_line(what: str, value: int, sizes: dict[str, int]):
    (said, *_) = found(what, value, **sizes)
    assert "of which it is not so" in said
    assert f"{__file__}:" in said


def test_a_false_assumption_raises():
    with pytest.raises(Exception, match="Assume failed"):
        found("assumed", 16, step=24)
