"""The calls that a GPU session times, the most wanted first: a session may end after any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from shapes import Shape, Work

RULES = ("gdn2", "kda", "gdn")
DIM = 128
LENGTHS = (8192, 32768)
HEADS = (8, 32)
BATCHES = (1, 64, 256, 1024)
DECODE_HEADS = 16
CHECKED = Shape(B=1, T=2032, H=32, D=DIM)
"""The same kernels as the timed calls of 32 heads, since 16 divides its tokens, and a last chunk that is not full."""


def problems(
    ops: Iterable[str], *, small: bool = False, lengths: Iterable[int] = LENGTHS, rules: Iterable[str] = RULES
) -> Iterator[Work]:
    """Forward of all rules before training, short sequences before long ones, then decoding."""
    ops, rules = list(ops), list(rules)
    dtype, dim = ("fp32", 32) if small else ("bf16", DIM)
    for length in (64,) if small else lengths:
        for op in (op for op in ("forward", "train") if op in ops):
            for rule in rules:
                for heads in (2,) if small else HEADS:
                    yield Work(op=op, rule=rule, dtype=dtype, shape=Shape(B=1, T=length, H=heads, D=dim))
    if "decode" in ops:
        for batch in (2,) if small else BATCHES:
            for rule in rules:
                yield Work(
                    op="decode",
                    rule=rule,
                    dtype=dtype,
                    shape=Shape(B=batch, T=1, H=2 if small else DECODE_HEADS, D=dim),
                )
