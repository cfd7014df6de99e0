"""The table of somebody else's kernels in other programs' formats: a Python module, FLA's folder, Kernel Tuner's T4."""

from __future__ import annotations

import json
from typing import Any

from ..schema.target_table import Offer, TargetEntry, TargetTable
from .fla import FlaEntry, to_fla
from .t4 import VERSION, Invalidity

_MODULE = '''"""Configurations of the autotuned kernels of {target} on {gpu}, written by `autotune export --to python`.

Compiled with Triton {triton}, ranked by resources, and run as compiled on a CPU where their line does not say otherwise;
nothing was timed.
"""

GPU = {gpu!r}
TRITON = {triton!r}
SOURCES = {{
{sources}}}
"""Digest of each kernel that the configurations are for (`cache_key` of a Triton function)."""

# kernel: {{key: arguments of triton.Config}}; a key is what Triton's autotuner makes of a call
CONFIGS = {{
{configs}}}


def lookup(kernel, key):
    """The arguments of `triton.Config` for a kernel's name and an autotuner's key; None where there is no entry."""
    return CONFIGS.get(kernel, {{}}).get(tuple(key))


def install(*kernels):
    """Have these autotuned kernels launch what is written here, unbenchmarked; other calls are tuned as ever.

    Returns how many configurations were taken. Kernels whose source is another get none, and so does Triton's interpreter; under
    another version of Triton, whose programs are others, none is taken.
    """
    from triton import Config, __version__

    if __version__ != TRITON:
        return 0
    taken = 0
    for kernel in kernels:
        name, function = kernel.base_fn.__name__, kernel.fn
        while hasattr(function, "fn") and not hasattr(function, "cache_key"):
            function = function.fn
        if getattr(function, "cache_key", None) == SOURCES.get(name, ""):
            kernel.cache.update({{key: Config(**config) for key, config in CONFIGS[name].items()}})
            taken += len(CONFIGS[name])
    return taken
'''


def to_python(table: TargetTable) -> str:
    """The source of a module that needs nothing, with `lookup(kernel, key)`, and `install(*kernels)`, which needs Triton."""
    by_kernel: dict[str, list[TargetEntry]] = {}
    for entry in table.entries:
        by_kernel.setdefault(entry.kernel, []).append(entry)
    configs = ""
    for kernel, entries in by_kernel.items():
        configs += f"    {kernel!r}: {{\n"
        for entry in entries:
            note = "" if entry.gate == "compiled" else "  # not run as compiled"
            configs += "".join(f"        {key!r}: {dict(entry.config)!r},{note}\n" for key in entry.keys)
        configs += "    },\n"
    sources = "".join(f"    {kernel!r}: {entries[0].source!r},\n" for kernel, entries in by_kernel.items())
    return _MODULE.format(target=table.target, gpu=table.gpu, triton=table.triton, sources=sources, configs=configs)


def to_fla_folder(table: TargetTable) -> dict[str, str]:
    """File name -> text of a folder that flash-linear-attention loads, for kernels under its own autotuner."""
    entries = [
        FlaEntry(
            kernel=entry.kernel, autotune_key=key, kwargs=entry.config["kwargs"], num_warps=entry.config["num_warps"],
            num_stages=entry.config["num_stages"], num_ctas=entry.config["num_ctas"],
            checked=f"as compiled: {'passed' if entry.gate == 'compiled' else 'owed'}",
        )
        for entry in table.entries
        for key in entry.keys
    ]  # fmt: skip
    return to_fla(entries, table.triton)


def to_t4(table: TargetTable) -> dict[str, str]:
    """File name -> text of T4 documents, one for each kernel and configuration chosen: all that the kernel offers there."""
    counts: dict[str, int] = {}
    files = {}
    for entry in table.entries:
        counts[entry.kernel] = number = counts.get(entry.kernel, 0) + 1
        document = {
            "schema_version": VERSION,
            "metadata": {"timeunit": "milliseconds", "problem": f"{entry.kernel} {list(entry.keys[0])} on {table.gpu}"},
            "results": [_result(one) for one in entry.offered],
        }
        files[f"{entry.kernel}-{number}.json"] = json.dumps(document, indent=1) + "\n"
    return files


_INVALIDITY: dict[str, Invalidity] = {
    "chosen": "correct", "ranked": "correct", "refused": "correctness", "timeout": "timeout", "crash": "runtime",
    "compile": "compile",
}  # fmt: skip


def _result(offer: Offer) -> dict[str, Any]:
    sizes = {name: value for name, value in offer.config.items() if name != "kwargs"}
    invalidity = _INVALIDITY.get(offer.outcome, "constraints")
    about = {"name": "outcome", "value": offer.outcome, "unit": ""}
    score = [] if offer.score is None else [{"name": "estimate", "value": offer.score, "unit": "relative"}]
    return {
        "configuration": {**offer.config["kwargs"], **sizes},
        "times": {"runtimes": []},
        "invalidity": invalidity,
        "correctness": 0 if invalidity == "correctness" else 1,
        "measurements": [*score, about],
        "objectives": ["estimate" if score else "outcome"],
    }
