"""Oracles of the kernels for inference, which normalise and activate on the way and count their own chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ...specs.arithmetic.numbers import Array
from ...specs.oracle import options, stages
from .call import Call, Collected, Span, raw_gate


def packed_scores(call: Call) -> dict[str, Array]:
    """Aqk on and below the diagonal, and above it the transpose of A."""
    call, found = _prepared(call), Collected(call.numbers)
    table = call.chunks() if call.scalars["PACKED"] else (span for spans in _sequences(call) for span in spans)
    for span in table:
        Aqk, _, A = stages.scores(call.chunk(span, "q", "k", "g", "b"), call.scale, call.numbers)
        pack = Aqk if A is None else Aqk + stages.lower(A, -1, call.numbers).swapaxes(-1, -2)
        found.scores(span, call.scalars["C"], pack=pack)
    return found.result()


def packed_walk(call: Call) -> dict[str, Array]:
    """o and ht from the scores that it is given."""
    call = _prepared(call)

    def unpacked(span: Span) -> tuple[Array, Array]:
        pack = call.score("pack", span)
        assert pack is not None
        unit = call.numbers.array(np.eye(span.rows)[None])
        inverse = stages.lower(pack.swapaxes(-1, -2), -1, call.numbers) + unit
        return stages.lower(pack, 0, call.numbers), inverse

    return _walk(call, unpacked)


def fused(call: Call) -> dict[str, Array]:
    """o and ht from the inputs alone."""
    call = _prepared(call)

    def made(span: Span) -> tuple[Array, Array | None]:
        Aqk, _, A = stages.scores(call.chunk(span, "q", "k", "g", "b"), call.scale, call.numbers)
        return Aqk, A

    return _walk(call, made)


def _walk(call: Call, scores: Callable[[Span], tuple[Array, Array | None]]) -> dict[str, Array]:
    found, numbers = Collected(call.numbers), call.numbers
    for n, spans in enumerate(_sequences(call)):
        S = call.state("h0", n) if call.scalars["INITIAL"] else call.no_state()
        for span in spans:
            chunk, (Aqk, A) = call.chunk(span, "q", "k", "v", "g", "b", "w"), scores(span)
            _, R, after = stages.writes(chunk, A, S, numbers)
            found.tokens(span, o=stages.output(chunk, Aqk, S, R, call.scale, numbers))
            S = after
        if call.scalars["FINAL"]:
            found.state("ht", n, S)
    return found.result(states=("ht",))


def _sequences(call: Call) -> Iterator[list[Span]]:
    """The chunks of each sequence."""
    if call.scalars["PACKED"]:
        bounds = call.tensors["cu_seqlens"].tolist()
    else:
        length = call.scalars["length"]
        tokens = call.tensors["q"].shape[-3]
        count = call.tensors["ht"].shape[-4] if call.scalars.get("FINAL") else tokens // max(1, length)
        bounds = [length * n for n in range(count + 1)]
    width = call.scalars["C"]
    for first, end in pairwise(bounds):
        yield [Span(0, start, min(width, end - start)) for start in range(first, end, width)]


def _prepared(call: Call) -> Call:
    """With q and k normalised and g activated, where the kernel does that itself."""
    tensors, numbers = dict(call.tensors), call.numbers
    if call.scalars["NORMALISE"]:
        epsilon = float(call.scalars["eps"])
        tensors |= {name: x * options.l2norm(x, numbers, epsilon)[1] for name in "qk" for x in (tensors[name],)}
    if call.scalars["RAW"]:
        raw = raw_gate(tensors["g"], len(call.leading))
        activated = options.activate(raw, tensors["A_log"], tensors["dt_bias"], numbers)
        tensors["g"] = activated.reshape(tensors["g"].shape)
    return replace(call, tensors=tensors)
