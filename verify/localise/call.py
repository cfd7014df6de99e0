"""The arguments of one launch as an oracle reads them: cut into chunks and heads, and put together again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from ...specs.arithmetic.numbers import Array, Numbers
from ...specs.oracle.stages import Chunk, Decayed

NONE, SCALAR = 0, 1
"""How a gate is tied, as kernels are told."""
_TIES = {"g": "DECAY", "b": "ERASE", "w": "WRITE"}
_ONE_PER_HEAD = ("dw",)  # read only where it is the share of b's gradient


class Span(NamedTuple):
    """Chunk (or sequence) `index`: `rows` tokens from `start` on."""

    index: int
    start: int
    rows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LaunchArguments:
    """The arguments of a launch. tensors: arrays of `numbers` (with any leading axes), or int64 for tables; None if absent."""

    tensors: Mapping[str, Any]
    scalars: Mapping[str, Any]
    numbers: Numbers

    @property
    def leading(self) -> tuple[int, ...]:
        """Axes that the numbers put before those of a tensor, for independent copies."""
        return self.numbers.array(np.zeros(())).shape

    @property
    def scale(self) -> float:
        return float(self.scalars["scale"])

    def of_heads(self, name: str, span: Span) -> Array | None:
        """[tokens, heads(, X)] -> [HV, rows, X or 1] of a span; value head j reads head j // (HV / heads). None if absent."""
        x = self.tensors.get(name)
        if x is None:
            return None
        if name in _ONE_PER_HEAD or (name in _TIES and self.scalars[_TIES[name]] == SCALAR):
            x = x[..., None]
        if name == "g":
            x = self.numbers.at("exponent", x)
        heads = np.arange(self.scalars["HV"]) * x.shape[-2] // self.scalars["HV"]
        return x[..., span.start : span.start + span.rows, :, :][..., heads, :].swapaxes(-2, -3)

    def chunk(self, span: Span, *names: str) -> Chunk:
        """The named inputs of a span. A write gate that is tied is b, or nothing."""
        parts = {name: self.of_heads(name, span) for name in names}
        if "w" in names and parts["w"] is None and self.scalars.get("ERASE") == SCALAR:
            parts["w"] = self.of_heads("b", span)
        return Chunk(**parts)

    def score(self, name: str, span: Span) -> Array | None:
        """The rows x rows corner of a chunk's scores [tokens, HV, C]; the rest meets rows that are not there."""
        if self.tensors.get(name) is None or not self.tensors[name].size:
            return None
        x = self.of_heads(name, span)
        return None if x is None else x[..., : span.rows]

    def state(self, name: str, index: int) -> Array:
        return self.tensors[name][..., index, :, :, :]

    def no_state(self) -> Array:
        shape = (*self.leading, self.scalars["HV"], self.scalars["K"], self.scalars["V"])
        return self.numbers.zeros(shape)

    def decayed(self, span: Span) -> Decayed:
        """The operands of a walk for one chunk; one that it does not read is None."""
        total = self.tensors.get("total")
        if total is None:
            total = self.numbers.array(np.ones((1, 1)))
        elif self.scalars["DECAY"] == SCALAR:
            total = total[..., span.index, :, None]
        else:
            total = total[..., span.index, :, :]
        queries, erasers, keys = (self.of_heads(name, span) for name in ("queries", "erasers", "keys"))
        return Decayed(queries, erasers, keys, total)  # pyright: ignore[reportArgumentType]

    def chunks(self) -> Iterator[Span]:
        """Those of the table, or without one those that the boundaries of sequences give."""
        if "chunks" in self.tensors:
            found = [(start, rows) for start, rows in self.tensors["chunks"].tolist()]
        else:
            C, bounds = self.scalars["C"], self.tensors["cu_seqlens"].tolist()
            found = [(start, min(C, end - start)) for first, end in pairwise(bounds) for start in range(first, end, C)]
        for index, (start, rows) in enumerate(found):
            if rows:
                yield Span(index, start, rows)

    def chunks_of(self, sequence: int) -> list[Span]:
        first, last = self.tensors["first_chunk"].tolist()[sequence : sequence + 2]
        return [span for span in self.chunks() if first <= span.index < last]

    @property
    def sequences(self) -> range:
        return range(len(self.tensors["first_chunk" if "first_chunk" in self.tensors else "cu_seqlens"]) - 1)


class Collected:
    """Results of chunks, put together in the layout of a launch's tensors."""

    def __init__(self, numbers: Numbers) -> None:
        self._numbers = numbers
        self._parts: dict[str, dict[int, Array]] = {}

    def tokens(self, span: Span, **parts: Array | None) -> None:
        """[HV, rows, X] each."""
        for name, part in parts.items():
            if part is not None:
                self._parts.setdefault(name, {})[span.start] = part.swapaxes(-2, -3)

    def scores(self, span: Span, width: int, **parts: Array | None) -> None:
        """[HV, rows, rows] each, zeros beyond."""
        wide = {}
        for name, part in parts.items():
            if part is not None:
                empty = self._numbers.zeros((*part.shape[:-1], width - span.rows))
                wide[name] = self._numbers.concatenate([part, empty], -1)
        self.tokens(span, **wide)

    def state(self, name: str, index: int, part: Array) -> None:
        self._parts.setdefault(name, {})[index] = part[..., None, :, :, :]

    def result(self, *, states: tuple[str, ...] = ()) -> dict[str, Array]:
        return {
            name: self._numbers.concatenate([parts[i] for i in sorted(parts)], -4 if name in states else -3)
            for name, parts in self._parts.items()
        }


def raw_gate(x: Array, leading: int) -> Array:
    """[..., tokens, G(, K)] behind so many leading axes, in the layout of a call: [..., 1, tokens, G, K or 1]."""
    tokens, heads, *channels = x.shape[leading:]
    return x.reshape((*x.shape[:leading], 1, tokens, heads, *(channels or (1,))))
