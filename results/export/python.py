"""A table as one Python module that needs nothing at all, for projects that want no dependency."""

from __future__ import annotations

import inspect
from typing import Any

from ..schema.default import default_config
from ..schema.entry import TIERS, TableEntry
from ..schema.key import OPTIONS, bucket
from ..schema.table import Table
from ..serve.choose import BOUND

_MODULE = '''"""Launch configurations of the gated delta rule for {gpu}, written by `autotune export --to python`."""

GPU = {gpu!r}
ARCH = {arch!r}
KERNELS = {kernels!r}
"""Digests of the kernels that the entries launch, by op."""

TIERS = {tiers!r}
GATES = ("compiled", "interpreter")
OPTIONS = {options!r}
BOUND = {bound!r}

# (op, rule, dtype, K, V): [(tokens, heads, options, configuration, tier, passed), ...], sizes as powers of two. passed: versions
# of Triton under which an entry of tier C ran as compiled, without a fault; None for what passed on the GPU itself.
ENTRIES = {{
{entries}}}


{bucket}

def lookup(op, rule, dtype, K, V, tokens, heads, options=(), min_tier="C", min_gate="compiled", triton=None):
    """(configuration, tier) for a call.

    tokens: of the longest sequence. heads: sequences times value heads. options: names out of OPTIONS.
    The entry of the call's own bucket, else the nearest one, else (the safe default, "default").
    min_tier: A or B, timed on this GPU or one like it; C, the default, takes what was compiled and never timed, too.
    min_gate: "compiled", so that tier C is served only where it ran as compiled, on a CPU, under `triton` (any version if
    None); "interpreter" takes the rest.
    """
    if min_tier not in TIERS or min_gate not in GATES or not set(options) <= set(OPTIONS):
        raise ValueError("accepted: min_tier of %s, min_gate of %s, options out of %s" % (TIERS, GATES, OPTIONS))
    best = None
    for row in ENTRIES.get((op, rule, dtype, K, V), ()):
        far = abs(row[0].bit_length() - bucket(tokens).bit_length())
        far += abs(row[1].bit_length() - bucket(heads).bit_length())
        far += len(set(row[2]) ^ set(options))
        ran = row[5] is None or (triton in row[5] if triton else bool(row[5]))
        good = TIERS.index(row[4]) <= TIERS.index(min_tier) and (ran or min_gate == "interpreter")
        if far <= BOUND and good and (best is None or far < best[0]):
            best = far, row[3], row[4]
    if best is not None:
        return best[1:]
    return default_config(op, dtype, K), "default"


{default}'''


def passed(entry: TableEntry) -> tuple[str, ...] | None:
    """Versions of Triton that an entry is served to without being asked for; None for all of them."""
    return None if entry.gate == "device" else entry.passed_under if entry.gate == "compiled" else ()


def to_python(table: Table) -> str:
    """The source of a module with `lookup(op, rule, dtype, K, V, tokens, heads, options, min_tier, min_gate, triton)`, which
    answers as ours does. Entries that failed verification are left out."""
    rows: dict[tuple[str, str, str, int, int], list[tuple[Any, ...]]] = {}
    kernels: dict[str, set[str]] = {}
    for entry in table.entries:
        key = entry.key
        if entry.gate != "failed":
            kernels.setdefault(key.op, set()).add(entry.kernel)
            row = (key.tokens, key.heads, key.options, entry.config, entry.tier, passed(entry))
            rows.setdefault((key.op, key.rule, key.dtype, key.K, key.V), []).append(row)
    body = "".join(
        f"    {subject!r}: [\n{''.join(f'        {row!r},{chr(10)}' for row in found)}    ],\n"
        for subject, found in rows.items()
    )
    return _MODULE.format(
        gpu=table.gpu,
        arch=table.arch,
        kernels={op: tuple(sorted(some)) for op, some in kernels.items()},
        bucket=inspect.getsource(bucket),
        default=inspect.getsource(default_config),
        tiers=TIERS[:3],
        options=OPTIONS,
        bound=BOUND,
        entries=body,
    )
