"""The question that a table answers: one call's op, rule, dtype, head dimensions, options, tokens and heads."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .strict import NAME, Fields

DTYPES = ("fp32", "bf16", "fp16")
OPTIONS = ("varlen", "state", "l2norm", "gate")
"""Packed sequences; an initial state; q and k normalised in the op; the decay gate activated in the op."""

LARGEST_BUCKET = 1 << 40


def bucket(count: int) -> int:
    """The power of two nearest to `count` on a logarithmic scale; 1 for an empty sequence."""
    return 1 << ((count * count).bit_length() // 2)


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Key:
    """The key of a row of a table, or of a record. Sorts in the order of its fields.

    op: chunk_fwd, chunk_train, recurrent; others' kernels have names of their own. rule: its name in
    `specs.rule.RULES`.
    K, V: head dimensions; 0 where a record holds for all. options: names out of OPTIONS, in that order.
    tokens, heads: buckets (powers of two) of the longest sequence and of sequences x value heads; 0 where it holds for
    all.

    Raises ValueError for anything else.
    """

    op: str
    rule: str
    dtype: str
    K: int
    V: int
    options: tuple[str, ...] = ()
    tokens: int = 0
    heads: int = 0

    def __post_init__(self) -> None:
        for name, text in (("op", self.op), ("rule", self.rule)):
            if not isinstance(text, str) or not NAME.fullmatch(text):
                raise ValueError(f"{name}={text!r} is not a name")
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype={self.dtype!r}; accepted: {', '.join(DTYPES)}")
        if min(self.K, self.V) < 0:
            raise ValueError(f"K={self.K}, V={self.V}: head dimensions are not negative")
        if self.options != in_order(self.options):
            raise ValueError(f"options={self.options!r}; accepted, in this order: {', '.join(OPTIONS)}")
        for name, size in (("tokens", self.tokens), ("heads", self.heads)):
            if not 0 <= size <= LARGEST_BUCKET or size & (size - 1):
                raise ValueError(f"{name}={size} is not a bucket; buckets are powers of two, or 0 for all")

    @property
    def complete(self) -> bool:
        """It is about one size, not about all."""
        return bool(self.K and self.V and self.tokens and self.heads)

    def __str__(self) -> str:
        options = "".join(f"+{name}" for name in self.options)
        return f"{self.op}:{self.rule}:{self.dtype}:k{self.K}:v{self.V}{options}:t{self.tokens}:h{self.heads}"


def in_order(options: tuple[str, ...]) -> tuple[str, ...]:
    """`options` sorted as OPTIONS is, without those that do not exist."""
    return tuple(name for name in OPTIONS if name in options)


def key_to_json(key: Key) -> dict[str, Any]:
    return {
        "op": key.op,
        "rule": key.rule,
        "dtype": key.dtype,
        "K": key.K,
        "V": key.V,
        "options": list(key.options),
        "tokens": key.tokens,
        "heads": key.heads,
    }


def key_from_json(fields: Fields) -> Key:
    """Takes the fields of a key out of `fields`. Raises TableError."""
    values = {
        "op": fields.text("op", NAME),
        "rule": fields.text("rule", NAME),
        "dtype": fields.choice("dtype", DTYPES),
        "K": fields.whole("K"),
        "V": fields.whole("V"),
        "options": fields.texts("options", NAME),
        "tokens": fields.whole("tokens"),
        "heads": fields.whole("heads"),
    }
    return fields.made(Key, **values)
