"""Ways to make one call that must not matter: layouts, the gradients asked for, the cotangents, and the surroundings of the call.

A style is a few words, joined by "+" in the token of a case, at most one of each axis; "" is the plain call. Each two words
of different axes meet in some row of the lattice, but for those that go alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from allpairspy import AllPairs

from ...specs.rule import NAMED

AXES: dict[str, dict[str, str]] = {
    "layout": {
        "transposed": "tensors whose last stride is not 1",
        "sliced": "tensors that are slices of larger ones",
        "expanded": "one sequence, expanded to a batch with stride 0",
    },
    "gradients asked": {
        "frozen_g": "no gradient of the decay gate",
        "frozen_qk": "no gradient of queries and keys",
        "frozen_h0": "no gradient of the initial state",
        "only_v": "a gradient of the values alone",
        "only_h0": "a gradient of the initial state alone",
    },
    "pulled": {
        "do_alone": "no gradient into the final state",
        "dht_alone": "no gradient into the output",
        "do_of_a_sum": "a gradient with stride 0 into the output, as o.sum() gives",
        "do_transposed": "a gradient into the output whose last stride is not 1",
    },
    "backward": {"twice": "two backward passes of one forward pass"},
    "kept": {"kept": "what the backward pass would compute again, kept from the forward pass"},
    "aliases": {"q_is_k": "one tensor as queries and keys"},
    "calls": {"between": "a call with other values of the same shapes before the backward pass"},
    "tuning": {
        "timed": "autotuned kernels that are timed first, on the same tensors",
        "chosen": "autotuned kernels of which another configuration than the first was chosen before",
    },
    "mode": {
        "no_grad": "torch.no_grad", "inference": "torch.inference_mode", "checkpoint": "torch.utils.checkpoint",
    },
    "types": {"fp32_gates": "gates in fp32 beside bf16"},
    "history": {"varied": "calls that differ from it in one thing each, before and after"},
    "repeat": {"again": "the same call once more"},
    "each": {"each_alone": "gradients of one input at a time, and of all but one"},
    "surroundings": {
        "threads": "a thread of its own for each pass",
        "autocast": "torch.autocast in bf16",
        "fp64_default": "fp64 as the default dtype of torch",
        "compiled": "torch.compile",
    },
    "derivative": {"second": "gradients of gradients"},
    "size": {"endless": "thousands of tokens"},
}  # fmt: skip
"""Axis -> word -> its meaning."""

FORWARD_ONLY = frozenset(("no_grad", "inference"))
ALONE = ("types", "tuning", "history", "repeat", "each", "surroundings", "size", "derivative")
"""Axes whose words are crossed with no other: some need a budget or many calls, which is dear, and tuning is of kernels that few
have."""
_OWN_SIZES = ("each", "surroundings", "size", "derivative")
"""Axes whose words change the problem."""
OF_GATES = {"frozen_g": "g", "fp32_gates": "bw", "varied": "g"}
"""Words that say something of a rule that has one of these gates."""
_OF_GRADIENTS = ("gradients asked", "pulled", "backward", "kept", "each", "derivative")


def words(style: str) -> tuple[str, ...]:
    """The words of a style. Raises ValueError for one that is unknown, and for two of an axis."""
    found = tuple(style.split("+")) if style else ()
    axes = [axis for word in found for axis, known in AXES.items() if word in known]
    if len(axes) != len(found) or len(set(axes)) != len(axes):
        known = ", ".join(word for known in AXES.values() for word in known)
        raise ValueError(f"call style {style!r} is not made of different sorts of these words: {known}")
    return found


def meaning(style: str) -> str:
    """A style in words."""
    return " and ".join(text for known in AXES.values() for word, text in known.items() if word in words(style))


@lru_cache
def styles(gradients: bool = True, single: bool = False, *, keeps: bool = False) -> tuple[str, ...]:
    """Rows in which all pairs of words meet; or each word alone that a drawn problem matters to, the plain call first.

    gradients: the kernel has them. keeps: it has the choice that `kept` is of.
    """
    axes = {axis: known for axis, known in AXES.items() if gradients or axis not in _OF_GRADIENTS}
    if not keeps:
        axes.pop("kept", None)
    if single:
        drawn = (word for axis, known in axes.items() if axis not in _OWN_SIZES for word in known)
        return ("", *(word for word in drawn if gradients or word != "checkpoint"))
    # A kernel that takes no gradients has none to vary.
    forward = {axis: list(known) for axis, known in axes.items() if axis not in (*_OF_GRADIENTS, *ALONE)}
    forward["mode"] = [*([] if gradients else [""]), *sorted(FORWARD_ONLY)]
    rows = _rows({axis: [*([""] if axis != "mode" else []), *known] for axis, known in forward.items()})
    if gradients:
        full = {axis: ["", *known] for axis, known in axes.items() if axis not in ALONE}
        rows = [*_rows({**full, "mode": ["", "checkpoint"]}), *rows]
    return tuple(dict.fromkeys((*rows, *(word for axis in ALONE for word in axes.get(axis, ())))))


def shared(among: Sequence[str], gradients: bool = True, *, keeps: bool = False) -> dict[str, str]:
    """Every row, and the rule that is to meet it where a kernel takes `among`: one of which it says something, in turn."""
    found = {}
    for index, style in enumerate(styles(gradients, keeps=keeps)):
        fitting = [rule for rule in among if _says_something(style, rule)] or list(among)
        found[style] = fitting[index % len(fitting)]
    return found


def _says_something(style: str, rule: str) -> bool:
    gates = set(NAMED[rule].gates)
    return all(gates & set(OF_GATES[word]) for word in words(style) if word in OF_GATES)


def _rows(axes: dict[str, list[str]]) -> list[str]:
    # Axes with many words first: the rows are then few.
    choices = sorted(axes.values(), key=len, reverse=True)
    return ["+".join(word for word in part if word) for row in AllPairs(choices) for part in _parts(list(row))]


def _parts(row: list[str]) -> list[list[str]]:
    """The row, or two: a tensor that is two has no gradient of its own."""
    lone = {"frozen_qk", "only_v", "only_h0"} & set(row)
    if "q_is_k" not in row or not lone:
        return [row]
    return [[word for word in row if word != "q_is_k"], [word for word in row if word not in lone]]
