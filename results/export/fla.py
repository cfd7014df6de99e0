"""Configurations as the files that flash-linear-attention 0.6 loads: one per kernel, straight under `FLA_CONFIG_DIR`.

FLA looks an entry up by the MD5 of a list: the values of the autotuner's key arguments, then the dtype of every tensor
argument.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FlaEntry:
    """One configuration of one of FLA's kernels.

    kernel: name of the jitted function. autotune_key: as FLA's `AutotuneKey.build` gives it (numbers, strings,
    booleans, None).
    kwargs: the block sizes. timing: milliseconds, median and quantiles; empty if it was never timed.
    checked: what it has been checked for, in words; FLA reads over it.
    """

    kernel: str
    autotune_key: tuple[Any, ...]
    kwargs: Mapping[str, int]
    num_warps: int
    num_stages: int
    num_ctas: int = 1
    timing: tuple[float, ...] = ()
    checked: str = ""


def to_fla(entries: Iterable[FlaEntry], triton: str) -> dict[str, str]:
    """File name -> text of a configuration folder that FLA loads in its strict mode, and in every other.

    `triton` is the version that the entries were made with. Where two entries have the same key the last one stands; a
    kernel's first entry is its default. Raises ValueError for a kernel whose name is not one.
    """
    kernels: dict[str, list[FlaEntry]] = {}
    for entry in entries:
        if not entry.kernel.isidentifier():
            raise ValueError(f"kernel={entry.kernel!r} is not the name of a function")
        kernels.setdefault(entry.kernel, []).append(entry)
    return {f"{name}.json": _text(name, found, triton) for name, found in sorted(kernels.items())}


def fla_hash(autotune_key: tuple[Any, ...]) -> str:
    """The key under which FLA files an entry."""
    text = json.dumps(autotune_key, separators=(",", ":"), sort_keys=True)
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def _text(kernel: str, entries: list[FlaEntry], triton: str) -> str:
    rows = {
        fla_hash(entry.autotune_key): {
            "autotune_key": list(entry.autotune_key),
            "config": _config(entry),
            "best_timing": list(entry.timing),
            **({"checked": entry.checked} if entry.checked else {}),
        }
        for entry in entries
    }
    document = {
        "kernel_name": kernel,
        "triton_version": triton,
        "default_config": _config(entries[0]),
        "autotune_entries": dict(sorted(rows.items())),
    }
    return json.dumps(document, indent=2) + "\n"


def _config(entry: FlaEntry) -> dict[str, Any]:
    return {
        "kwargs": dict(entry.kwargs),
        "num_warps": entry.num_warps,
        "num_ctas": entry.num_ctas,
        "num_stages": entry.num_stages,
        "maxnreg": None,
        "ir_override": None,
    }
