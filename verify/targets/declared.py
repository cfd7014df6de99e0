"""Declarations about a function that its signature cannot make: `module:function[forward_only,dtypes=bf16+fp16]`.

A table of the pyproject.toml where a command is typed says the same under a name of its own:

    [tool.deltaproof.targets.mine]
    target = "my_package.ops:my_kernel"
    forward_only = true
    dtypes = ["bf16", "fp16"]

A problem that a declaration excludes is not judged, or is posed in another way, and is reported with the verdicts as declined.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from ...specs.problem import Problem
from ...specs.rounding.contract import DIFFERENCE_OF_SUMS
from ...specs.rule import RULES
from .convention import Adapted

Words = tuple[tuple[str, str], ...]
"""Declarations as they are written: (word, value)."""

FLAGS: dict[str, str] = {
    "forward_only": "it has no backward pass",
    "recurrent": "it goes token by token, and is held to the stricter budget of that",
    "discards_unwritten": "it loads what nothing has written and discards it",
    "sums_decay_gradient": "the gradient of its decay is a difference of sums",
    "state_v_first": "its states are [N, HV, V, K]",
    "grouped_heads": "it takes more value heads than key heads",
    "key_gates": "it then takes gates per key head as well",
    "infinite_decay": "it takes a log-decay of -inf",
}
LISTS: dict[str, tuple[str, ...]] = {
    "rules": tuple(RULES), "dtypes": ("fp32", "bf16", "fp16"), "chunk_sizes": ("16", "32", "64", "128", "256"),
}  # fmt: skip
NUMBERS = ("min_channels", "max_channels")
"""Words that may be declared: flags (true, or false with "=no"), lists ("=bf16+fp16"), and numbers."""

_TABLES = ("tool", "deltaproof", "targets")
"""The way to the targets of a pyproject.toml."""

_CONVENTION = ("state_v_first", "grouped_heads", "key_gates", "infinite_decay")
_FORM = re.compile(r"(?P<target>[^\[\]]+?)(\[(?P<words>[^\[\]]*)\])?")


def resolved(name: str, folder: Path | None = None) -> str:
    """A target by its full name, if it is one that the pyproject.toml of a folder (the current one) gives.

    Raises ValueError for a table that is not understood.
    """
    path = (folder or Path.cwd()) / "pyproject.toml"
    if ":" in name or not path.is_file():
        return name
    try:
        found: Any = tomllib.loads(path.read_text(encoding="utf-8"))
    except RecursionError:
        raise ValueError(f"{path.name} cannot be read: it is nested too deeply") from None
    except (OSError, ValueError) as error:
        raise ValueError(f"{path.name} cannot be read: {error}") from None
    for depth, word in enumerate(_TABLES):
        found = found.get(word, {})
        if not isinstance(found, Mapping):
            raise ValueError(f"{path.name}: {'.'.join(_TABLES[: depth + 1])} is {found!r:.60}, expected a table")
    if (found := found.get(name)) is None:
        return name
    if not isinstance(found, Mapping) or not isinstance(found.get("target"), str):
        raise ValueError(f"[tool.deltaproof.targets.{name}] has no target; expected target = 'module:function'")
    if not found["target"] or set("[]") & set(found["target"]):
        raise ValueError(f"[tool.deltaproof.targets.{name}] has target {found['target']!r}; expected 'module:function'")
    words = [f"{word}={_written(value)}" for word, value in found.items() if word != "target"]
    whole = f"{found['target']}[{','.join(words)}]" if words else found["target"]
    split(whole)
    return whole


def split(name: str) -> tuple[str, Words]:
    """A target's name without its declarations, and these. Raises ValueError for a word that cannot be declared."""
    match = _FORM.fullmatch(name)
    if match is None:
        raise ValueError(f"unknown target {name!r}; put declarations in brackets at its end, as in a:b[recurrent]")
    parts = [part.strip() for part in (match["words"] or "").split(",") if part.strip()]
    words = tuple((word.strip(), value.strip()) for word, _, value in (part.partition("=") for part in parts))
    for place, (word, value) in enumerate(words):
        if (wrong := _wrong(word, value)) is not None:
            raise ValueError(f"target {name!r}: {wrong}")
        if word in dict(words[:place]):
            raise ValueError(f"target {name!r}: {word} is declared twice")
    return match["target"], words


def declaring(kernel: Adapted, function: Callable[..., Any], words: Words) -> Adapted:
    """The kernel of a function as it is declared. Raises ValueError for chunk sizes that it cannot be told."""
    said: dict[str, Any] = {word: _value(word, value) for word, value in words}
    convention = kernel.convention
    changes: dict[str, Any] = {
        word: said[word] for word in (*_CONVENTION, "rules", "dtypes", "max_channels") if word in said
    }
    if "chunk_sizes" in said:
        if "chunk_size" not in convention.options:
            raise ValueError(f"target {kernel.name!r} has no argument chunk_size, so chunk_sizes cannot be declared")
        changes["chunk_sizes"] = lambda problem: said["chunk_sizes"]
    if "min_channels" in said:
        changes["limits"] = partial(_below, said["min_channels"])
    convention = replace(convention, **changes)
    recurrent = said.get("recurrent", kernel.op == "recurrent")
    differentiable = kernel.differentiable and not said.get("forward_only", False)
    return replace(
        kernel,
        op="recurrent" if recurrent else "chunk_train" if differentiable else "chunk_fwd",
        differentiable=differentiable,
        run=partial(convention.call, function),
        accepts=convention.accepts,
        configs=convention.configs,
        convention=convention,
        discards_unwritten=said.get("discards_unwritten", kernel.discards_unwritten),
        sums_decay_gradient=said.get("sums_decay_gradient", not recurrent),
        exponent=None if recurrent else DIFFERENCE_OF_SUMS,
    )


def _below(least: int, problem: Problem) -> str | None:
    return f"head dimensions below {least}" if min(problem.K, problem.V) < least else None


def _written(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _wrong(word: str, value: str) -> str | None:
    """The fault of a word or its value, or None."""
    if word in FLAGS:
        return None if value in ("", "yes", "no") else f"{word} is {value!r}; accepted: yes, no"
    if word in LISTS:
        strange = [one for one in value.split("+") if one not in LISTS[word]]
        return f"{word} has {strange[0]!r}; accepted: {', '.join(LISTS[word])}, joined by +" if strange else None
    if word in NUMBERS:
        good = re.fullmatch(r"[1-9]\d{0,5}", value, re.ASCII)
        return None if good else f"{word} is {value!r}; accepted: a whole number from 1 to 999999"
    return f"{word!r} cannot be declared; accepted: {', '.join((*FLAGS, *LISTS, *NUMBERS))}"


def _value(word: str, value: str) -> Any:
    if word in FLAGS:
        return value != "no"
    if word in NUMBERS:
        return int(value)
    return tuple(int(one) if word == "chunk_sizes" else one for one in value.split("+"))


def would_change(message: str, cause: str | None) -> str | None:
    """The declaration that would change how somebody else's kernel failed, in words; None if there is none."""
    if (cause or "").startswith("never written at"):
        return "not counted if it declares discards_unwritten and its results show none of it"
    if "raised in its backward pass" in message or "returns no gradient for" in message:
        return "not asked for if it declares forward_only"
    shapes = re.search(r"returns ht as \S+ \[(.*?)\], expected \S+ \[(.*?)\]", message)
    if shapes and shapes[1].split(", ")[-2:] == shapes[2].split(", ")[-2:][::-1]:
        return "right if it declares state_v_first"
    return None
