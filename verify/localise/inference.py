"""Oracles of the kernels for inference, which normalise and activate on the way and count their own chunks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np

from ...specs.arithmetic.numbers import Array
from ...specs.oracle import options, stages
from .call import SCALAR, Collected, LaunchArguments, Span, raw_gate


def packed_scores(call: LaunchArguments) -> dict[str, Array]:
    """The operands of the walk's products, a slot of C rows for every chunk; slots of no chunk stay as they were."""
    call, found, width = _prepared(call), Collected(call.numbers), call.scalars["C"]
    chunks = {slot: span for spans in _slots(call) for slot, span in spans}
    written = [
        name for name in ("queries", "erasers", "writers", "pairs", "total") if call.tensors.get(name) is not None
    ]
    count = call.tensors["queries"].shape[-4]
    for slot in range(count):
        row = Span(slot, slot, 1)
        if slot not in chunks:
            for name in written:
                tensor = call.tensors[name]
                if name != "total":
                    found.state(name, slot, tensor[..., slot, :, :, :])
                elif call.scalars["DECAY"] == SCALAR:
                    found.tokens(row, total=tensor[..., slot, :, None, None])
                else:
                    found.tokens(row, total=tensor[..., slot, :, None, :])
            continue
        names = ("q", "k", "g", "b", *(("w",) if call.scalars["TIED"] else ()))
        given = stages.operands(call.chunk(chunks[slot], *names), call.scale, call.numbers)
        for name in written:
            part = getattr(given, name)
            if name == "total":
                found.tokens(row, total=part[..., :1] if call.scalars["DECAY"] == SCALAR else part)
                continue
            columns = width if name == "pairs" else part.shape[-1]
            found.state(name, slot, _padded(part, width, columns, call))
    return found.result(states=("queries", "erasers", "writers", "pairs"))


def packed_walk(call: LaunchArguments) -> dict[str, Array]:
    """o and ht from the operands that it is given."""
    found, numbers = Collected(call.numbers), call.numbers
    for n, spans in enumerate(_slots(call)):
        S = call.state("h0", n) if call.scalars["INITIAL"] else call.no_state()
        for slot, span in spans:
            v, w = call.of_heads("v", span), call.of_heads("w", span)
            assert v is not None
            o, S = stages.step(_operands(call, slot, span.rows), v if w is None else w * v, S, call.scale, numbers)
            found.tokens(span, o=o)
        if call.scalars["FINAL"]:
            found.state("ht", n, S)
    return found.result(states=("ht",))


def group_bounds(call: LaunchArguments) -> dict[str, Array]:
    """Where each group begins, and the end of the last; those without tokens begin at the end of their sequence."""
    L, bounds = call.scalars["L"], [0]
    for n, (first, end) in enumerate(_bounds(call)):
        behind = end // L + n + 1 if _packed(call) else (n + 1) * -(-(end - first) // L)
        bounds += [min(first + L * (i + 1), end) for i in range(behind + 1 - len(bounds))]
    return {"bounds": np.array(bounds)}


def group_maps(call: LaunchArguments) -> dict[str, Array]:
    """The results of each group from no state and, with nothing to write, from the identity or a column of ones."""
    found, numbers, sizes = Collected(call.numbers), call.numbers, call.scalars
    K, V, more = sizes["K"], sizes["V"], sizes["W"] - sizes["V"]
    start = np.concatenate([np.zeros((K, V)), np.eye(K) if sizes["ERASE"] else np.ones((K, 1))], 1)
    for n, spans in enumerate(_slots(call)):
        if sum(span.rows for _, span in spans) <= sizes["skipped"]:
            found.state("maps", n, call.state("maps", n))
            continue
        S = call.no_state()[..., :1, :1] * 0.0 + numbers.array(start[None])
        for slot, span in spans:
            v, w = call.of_heads("v", span), call.of_heads("w", span)
            assert v is not None
            z = v if w is None else w * v
            z = numbers.concatenate([z, z[..., :1] * numbers.array(np.zeros((1, 1, more)))], -1)
            _, S = stages.carried(_operands(call, slot, span.rows), z, S, numbers)
        found.state("maps", n, S)
    return found.result(states=("maps",))


def group_starts(call: LaunchArguments) -> dict[str, Array]:
    """The state before each group, and after each sequence. Numbers without tokens have the last of these states."""
    found, numbers, sizes, L = Collected(call.numbers), call.numbers, call.scalars, call.scalars["L"]
    for n, (first, end) in enumerate(_bounds(call)):
        S = call.state("h0", n) if sizes["INITIAL"] else call.no_state()
        groups = -(-(end - first) // L)
        group = first // L + n if _packed(call) else n * groups
        behind = end // L + n + 1 if _packed(call) else group + groups
        for i in range(group, behind):
            found.state("starts", i, S)
            if i + 1 < group + groups + sizes["FINAL"]:
                S = stages.joined(call.state("maps", i), S, numbers)
        if sizes["FINAL"]:
            found.state("ht", n, S)
    return found.result(states=("starts", "ht"))


def _operands(call: LaunchArguments, slot: int, rows: int) -> stages.Operands:
    """The operands of a chunk in its slot."""

    def cell(name: str, columns: int | None = None) -> Array | None:
        x = call.tensors.get(name)
        return None if x is None else x[..., slot, :, :rows, slice(columns)]

    total = call.tensors.get("total")
    if total is None:
        total = call.numbers.array(np.ones((1, 1, 1)))
    elif call.scalars["DECAY"] == SCALAR:
        total = total[..., slot, :, None, None]
    else:
        total = total[..., slot, :, None, :]
    writers = cell("writers")
    assert writers is not None
    return stages.Operands(cell("queries"), cell("erasers"), writers, cell("pairs", rows), total)


def _padded(x: Array, rows: int, columns: int, call: LaunchArguments) -> Array:
    """Zeros to the right of and below [..., n, m]."""
    right = call.numbers.zeros((*x.shape[:-1], columns - x.shape[-1]))
    x = call.numbers.concatenate([x, right], -1) if right.shape[-1] else x
    below = call.numbers.zeros((*x.shape[:-2], rows - x.shape[-2], columns))
    return call.numbers.concatenate([x, below], -2) if below.shape[-2] else x


def _slots(call: LaunchArguments) -> Iterator[list[tuple[int, Span]]]:
    """The chunks of each sequence, and their slots."""
    width = call.scalars["C"]
    for n, spans in enumerate(_sequences(call)):
        first = spans[0].start // width + n if _packed(call) and spans else n * len(spans)
        yield [(first + i, span) for i, span in enumerate(spans)]


def fused(call: LaunchArguments) -> dict[str, Array]:
    """o and ht from the inputs alone."""
    call = _prepared(call)

    def made(span: Span) -> tuple[Array, Array | None]:
        Aqk, _, A = stages.scores(call.chunk(span, "q", "k", "g", "b"), call.scale, call.numbers)
        return Aqk, A

    return _walk(call, made)


def _walk(call: LaunchArguments, scores: Callable[[Span], tuple[Array, Array | None]]) -> dict[str, Array]:
    found, numbers = Collected(call.numbers), call.numbers
    for n, spans in enumerate(_sequences(call)):
        S = call.state("h0", n) if call.scalars["INITIAL"] else call.no_state()
        for span in spans:
            chunk, (Aqk, A) = call.chunk(span, "q", "k", "v", "g", "b", "w"), scores(span)
            given = stages.decayed(chunk, numbers)
            _, R, after = stages.writes(given, A, stages.written(chunk), S, numbers)
            found.tokens(span, o=stages.output(given.queries, Aqk, S, R, call.scale, numbers))
            S = after
        if call.scalars["FINAL"]:
            found.state("ht", n, S)
    return found.result(states=("ht",))


def _sequences(call: LaunchArguments) -> Iterator[list[Span]]:
    """The chunks of each sequence."""
    width = call.scalars["C"]
    for first, end in _bounds(call):
        yield [Span(0, start, min(width, end - start)) for start in range(first, end, width)]


def _packed(call: LaunchArguments) -> bool:
    """Whether sequences have boundaries of their own."""
    return call.tensors.get("cu_seqlens") is not None


def _bounds(call: LaunchArguments) -> list[tuple[int, int]]:
    """First token and end of each sequence."""
    if _packed(call):
        return list(pairwise(call.tensors["cu_seqlens"].tolist()))
    length = call.scalars["length"]
    if "sequences" in call.scalars:
        count = call.scalars["sequences"]
    elif call.scalars.get("FINAL"):
        count = call.tensors["ht"].shape[-4]
    elif "starts" in call.tensors:
        count = call.tensors["starts"].shape[-4] // max(1, -(-length // call.scalars["L"]))
    else:
        count = call.tensors["q" if "q" in call.tensors else "v"].shape[-3] // max(1, length)
    return [(length * n, length * (n + 1)) for n in range(count)]


def _prepared(call: LaunchArguments) -> LaunchArguments:
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
