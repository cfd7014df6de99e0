"""Shapes as models have them, which are judged in addition to the drawn ones: drawn problems are small, and some faults show only
at size (in a second program of a grid, a third chunk, a head dimension that is served).

They are few, and every kernel meets each of them on one rule.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ...specs.problem import Problem
from ...specs.rule import NAMED, Rule


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """fields: of the problem, where they are not the defaults. turns: further ones, of which each kernel meets one.
    plain: those for functions without Triton kernels, whose loops over tokens are slow in exact arithmetic.
    rules: those that it is for, where a kernel takes several. chunks: of which it has so many, of every size that a kernel has,
    and a tail. served: in a configuration of each chunk size with which tables serve it.
    """

    name: str
    about: str
    fields: dict[str, Any]
    turns: tuple[dict[str, Any], ...] = ({},)
    plain: dict[str, Any] = field(default_factory=dict)
    chunks: int = 0
    served: bool = False
    rules: Callable[[Rule], bool] = field(default=lambda rule: True)


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(
            name="served",
            about="the head dimension of most models, normalised and gated in the kernel, three chunks",
            fields={"T": 130, "K": 128, "V": 128, "qk_l2norm": True, "gate_in_kernel": True, "seed": 21},
            turns=({}, {"lengths": (0, 75, 55)}, {"scale": 8.0}),
        ),
        Shape(
            name="grouped",
            about="the same head dimension with four value heads a key head, gates per key head",
            fields={"T": 17, "HV": 4, "K": 128, "V": 16, "gate_heads": "key", "seed": 24},
        ),
        Shape(
            name="paired",
            about="the same with two value heads a key head and many of them, without a state, and the output made larger",
            fields={"B": 5, "T": 3, "H": 2, "HV": 4, "K": 128, "V": 16, "initial_state": False, "scale": 8.0, "seed": 30},
        ),
        Shape(
            name="wide",
            about="head dimensions between the usual ones, more than one tile of each, three value heads a key head",
            fields={"T": 17, "H": 1, "HV": 3, "K": 100, "V": 136, "seed": 22},
        ),
        Shape(
            name="widest",
            about="the largest head dimension",
            fields={"T": 3, "K": 256, "V": 256, "seed": 28},
        ),
        Shape(
            name="rows",
            about="many sequences times heads, and more than a thousand numbers of a scalar gate",
            fields={"B": 11, "T": 16, "H": 2, "HV": 6, "K": 20, "V": 8, "seed": 23},
            rules=lambda rule: rule.decay == "scalar" and rule.erase != "none",
        ),
        Shape(
            name="sequences",
            about="a packed batch of more than a hundred and twenty-eight sequences, the last of them long",
            fields={"T": 699, "lengths": (*(0, 1, 0, 2) * 33, 600), "K": 4, "V": 4, "seed": 25},
            turns=({}, {"K": 128}),
        ),
        Shape(
            name="chunks",
            about="two chunks of every size and a tail",
            fields={"K": 64, "V": 8, "seed": 29},
            chunks=2,
        ),
        Shape(
            name="long",
            about="more than two thousand tokens, with small heads",
            fields={"T": 2060, "K": 4, "V": 4, "seed": 26},
            plain={"T": 520},
        ),
        Shape(
            name="rounded",
            about="the head dimension of most models, in 16 bits and with rounding that shows, and keys of zeros",
            fields={"T": 66, "lengths": (1, 65), "K": 128, "V": 128, "dtype": "bf16", "qk_l2norm": True, "gate_in_kernel": True,
                    "regime": "zero_keys", "seed": 27},
            served=True,
        ),
        Shape(
            name="rounded_long",
            about="more tokens in 16 bits, and four value heads a key head",
            fields={"T": 150, "HV": 4, "K": 128, "V": 4, "dtype": "bf16", "seed": 31},
            turns=({}, {"lengths": (0, 147, 3)}, {"initial_state": False}),
        ),
        Shape(
            name="half",
            about="fp16, its values near the limits, and the output made larger",
            fields={"T": 20, "HV": 2, "K": 128, "V": 16, "dtype": "fp16", "scale": 8.0, "seed": 32},
            turns=({"regime": "huge_values"}, {"regime": "far_rows", "qk_l2norm": True}),
        ),
    )
}  # fmt: skip
"""The shapes by name. Those with a dtype are met by properties that see rounding, the others by those that see none."""


def assigned(names: Sequence[str], rule: Rule, among: Sequence[str], turn: str) -> list[Shape]:
    """The shapes that a rule is to meet, where a kernel takes `among`: each goes to one of them, in the kernel's turn.

    turn: tells kernels apart.
    """
    first = zlib.crc32(turn.encode())
    found = []
    for index, name in enumerate(names):
        shape = SHAPES[name]
        fitting = [other for other in among if shape.rules(NAMED[other])] or list(among)
        if fitting[(first + index) % len(fitting)] == rule.name:
            more = shape.turns[first % len(shape.turns)]
            found.append(replace(shape, fields={**shape.fields, **more}, turns=({},)))
    return found


def small(rule: Rule, takes: Callable[[Problem], bool], *, gated: bool = False) -> Problem | None:
    """The problem on which call styles are judged. gated: with normalised keys and raw gates, as far as the kernel takes them."""
    more = {"qk_l2norm": True, "gate_in_kernel": True} if gated else {}
    shape = Shape(name="small", about="", fields={"B": 2, "T": 19, "H": 1, "HV": 2, "K": 6, "V": 5, **more})
    plain = Shape(name="small", about="", fields={"B": 2, "T": 19, "K": 16, "V": 16, **more})
    return problem(shape, rule, takes) or problem(plain, rule, takes)


def problem(shape: Shape, rule: Rule, takes: Callable[[Problem], bool]) -> Problem | None:
    """A shape as a problem that a kernel takes: with all its options, or with as many as it does; None if it takes none.

    Of those that see rounding another dtype is better than nothing.
    """
    fields = dict(shape.fields)
    if rule.decay == "none":
        fields.pop("gate_in_kernel", None)
    whole = Problem(rule=rule, **fields)
    others = ("bf16", "fp16", "fp32") if "dtype" in fields else ()
    types = [replace(whole, dtype=dtype) for dtype in dict.fromkeys((whole.dtype, *others))]
    return next((one for typed in types for one in _without(typed) if takes(one)), None)


def _without(whole: Problem) -> Iterator[Problem]:
    """The problem, then with one option less at a time, and never with more than before."""
    yield whole
    less: dict[str, Any] = {}
    for change in (
        {"gate_in_kernel": False}, {"qk_l2norm": False}, {"gate_heads": "value"}, {"H": whole.HV},
        {"lengths": None, "B": whole.B if whole.lengths is None else len(whole.lengths),
         "T": whole.T if whole.lengths is None else max(whole.lengths)},
        {"initial_state": False}, {"final_state": False},
    ):  # fmt: skip
        less |= change
        yield replace(whole, **less)
