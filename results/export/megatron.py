"""Configurations as the table that Megatron-LM pins Triton's autotuner to: `<architecture>.json` under its `table_path`.

It finds an entry (`megatron/core/tuning`) by the name of the jitted function and a text: "name=value" of the autotuner's key
arguments, then the dtype of every tensor argument. The entry must equal a configuration that the kernel offers, field by field:
it has these fields and no other. Of several folders the first file alone is read: it holds all that is to be found.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any

from ..schema.strict import TableError, parse, shown

Kernels = dict[str, dict[str, dict[str, Any]]]
"""Name of the function -> key -> the fields of a `triton.Config`."""


def megatron_key(keys: Iterable[str], arguments: Mapping[str, Any]) -> str:
    """The key by which Megatron-LM looks a call up. keys: of the autotuner. arguments: of the call, by name, in their order."""
    named = [f"{name}={arguments[name]}" for name in keys if name in arguments]
    return "|".join([*named, *(str(value.dtype) for value in arguments.values() if hasattr(value, "dtype"))])


def megatron_config(config: Any) -> dict[str, Any]:
    """The fields of a `triton.Config` that are compared."""
    names = ("num_warps", "num_stages", "num_ctas", "maxnreg", "ir_override")
    return {"kwargs": dict(config.kwargs), **{name: getattr(config, name) for name in names}}


def to_megatron(
    kernels: Kernels,
    *,
    arch: str,
    triton: str,
    packages: Mapping[str, str],
    source: str,
    before: str | None = None,
    where: str = "",
) -> str:
    """The text of a table; arch: "sm90". before: the text of the one that it replaces, whose other entries are kept.

    Raises TableError, which names `where`, if that is no such table, or for another architecture or Triton.
    """
    old = {"kernels": {}} if before is None else _read(before, where)
    for name, wanted in (("arch", arch), ("triton", triton)):
        if (found := old.get(name)) not in (None, "", wanted):
            raise TableError(f"{where}: is for {name} {shown(found)}, this table for {wanted}; write to another folder")
    told = old.get("source", "")
    document = {
        "arch": arch,
        "triton": triton,
        "packages": {**old.get("packages", {}), **packages},
        "source": told if source in told else f"{told}; {source}" if told else source,
        "kernels": old["kernels"] | {name: old["kernels"].get(name, {}) | some for name, some in kernels.items()},
    }
    return json.dumps(document, indent=1, sort_keys=True) + "\n"


def _read(text: str, where: str) -> dict[str, Any]:
    found = parse(text, where)
    kernels = found.get("kernels") if isinstance(found, dict) else None
    if not (isinstance(kernels, dict) and all(isinstance(some, dict) for some in kernels.values())):
        raise TableError(f"{where}: is no tuning table of Megatron-LM's")
    for name, kind in (("packages", dict), ("source", str)):
        if not isinstance(found.get(name, kind()), kind):
            raise TableError(f"{where}: field {name!r} is {shown(found[name])}")
    return found
