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
    """fields: of the problem, where they are not the defaults. rules: those that it is for, where a kernel takes several.
    chunks: of which it has so many, of every size that a kernel has, and a tail."""

    name: str
    about: str
    fields: dict[str, Any]
    chunks: int = 0
    rules: Callable[[Rule], bool] = field(default=lambda rule: True)


SHAPES: dict[str, Shape] = {
    shape.name: shape
    for shape in (
        Shape(
            name="served",
            about="the head dimension of most models, normalised and gated in the kernel, three chunks",
            fields={"T": 140, "K": 128, "V": 128, "qk_l2norm": True, "gate_in_kernel": True, "seed": 21},
        ),
        Shape(
            name="rounded",
            about="the same head dimension, in 16 bits and with rounding that shows, and keys of zeros",
            fields={"T": 70, "K": 128, "V": 128, "qk_l2norm": True, "gate_in_kernel": True, "regime": "zero_keys", "seed": 27},
        ),
        Shape(
            name="wide",
            about="head dimensions between the usual ones, more than one tile of each, three value heads a key head",
            fields={"T": 17, "H": 1, "HV": 3, "K": 100, "V": 200, "seed": 22},
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
            name="grouped",
            about="four value heads a key head, gates per key head",
            fields={"T": 20, "H": 2, "HV": 8, "K": 16, "V": 16, "gate_heads": "key", "seed": 24},
        ),
        Shape(
            name="sequences",
            about="a packed batch of more than a hundred and twenty-eight sequences",
            fields={"T": 99, "lengths": (0, 1, 0, 2) * 33, "K": 4, "V": 4, "seed": 25},
        ),
        Shape(
            name="chunks",
            about="two chunks of every size and a tail",
            fields={"K": 8, "V": 8, "seed": 29},
            chunks=2,
        ),
        Shape(
            name="long",
            about="more than two thousand tokens, with small heads",
            fields={"T": 2060, "K": 4, "V": 4, "seed": 26},
        ),
    )
}  # fmt: skip
"""The shapes by name."""


def assigned(names: Sequence[str], rule: Rule, among: Sequence[str], turn: str) -> list[Shape]:
    """The shapes that a rule is to meet, where a kernel takes `among`: each goes to one of them. turn: tells kernels apart."""
    first = zlib.crc32(turn.encode())
    found = []
    for index, name in enumerate(names):
        fitting = [other for other in among if SHAPES[name].rules(NAMED[other])] or list(among)
        if fitting[(first + index) % len(fitting)] == rule.name:
            found.append(SHAPES[name])
    return found


def small(rule: Rule, takes: Callable[[Problem], bool], *, gated: bool = False) -> Problem | None:
    """The problem on which call styles are judged. gated: with normalised keys and raw gates, as far as the kernel takes them."""
    more = {"qk_l2norm": True, "gate_in_kernel": True} if gated else {}
    shape = Shape(name="small", about="", fields={"B": 2, "T": 19, "H": 1, "HV": 2, "K": 6, "V": 5, **more})
    plain = Shape(name="small", about="", fields={"B": 2, "T": 19, "K": 16, "V": 16, **more})
    return problem(shape, rule, takes) or problem(plain, rule, takes)


def problem(shape: Shape, rule: Rule, takes: Callable[[Problem], bool]) -> Problem | None:
    """A shape as a problem that a kernel takes: with all its options, or with as many as it does; None if it takes none."""
    fields = dict(shape.fields)
    if rule.decay == "none":
        fields.pop("gate_in_kernel", None)
    return next((one for one in _without(Problem(rule=rule, **fields)) if takes(one)), None)


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
