"""A table as one Python module that needs nothing at all, for projects that want no dependency."""

from __future__ import annotations

import inspect

from ..schema.default import default_config
from ..schema.entry import TIERS
from ..schema.key import OPTIONS
from ..schema.table import Table
from ..serve.choose import BOUND

_MODULE = '''"""Launch configurations of the gated delta rule for {gpu}, written by `autotune export --to python`."""

GPU = {gpu!r}
ARCH = {arch!r}
KERNELS = {kernels!r}
"""Digests of the kernels that the entries launch, by op."""

TIERS = {tiers!r}
OPTIONS = {options!r}
BOUND = {bound!r}

# (op, rule, dtype, K, V): [(tokens, heads, options, configuration, tier), ...], sizes as powers of two
ENTRIES = {{
{entries}}}


def bucket(count):
    """The power of two nearest to `count` on a logarithmic scale."""
    return 1 << ((count * count).bit_length() // 2)


def lookup(op, rule, dtype, K, V, tokens, heads, options=(), min_tier="B"):
    """(configuration, tier) for a call.

    tokens: of the longest sequence. heads: sequences times value heads. options: names out of OPTIONS.
    The entry of the call's own bucket, else the nearest one, else (the safe default, "default"). min_tier: A, B or C.
    """
    if min_tier not in TIERS or not set(options) <= set(OPTIONS):
        raise ValueError("accepted: min_tier out of %s, options out of %s" % (TIERS, OPTIONS))
    best = None
    for row in ENTRIES.get((op, rule, dtype, K, V), ()):
        far = abs(row[0].bit_length() - bucket(tokens).bit_length())
        far += abs(row[1].bit_length() - bucket(heads).bit_length())
        far += len(set(row[2]) ^ set(options))
        if far <= BOUND and TIERS.index(row[4]) <= TIERS.index(min_tier) and (best is None or far < best[0]):
            best = far, row[3], row[4]
    if best is not None:
        return best[1:]
    return default_config(op, dtype, K), "default"


{default}'''


def to_python(table: Table) -> str:
    """The source of a module with `lookup(op, rule, dtype, K, V, tokens, heads, options, min_tier)`. Entries that
    failed verification are left out."""
    rows: dict[tuple[str, str, str, int, int], list[tuple[int, int, tuple[str, ...], str, str]]] = {}
    kernels: dict[str, set[str]] = {}
    for entry in table.entries:
        key = entry.key
        if entry.gate != "failed":
            kernels.setdefault(key.op, set()).add(entry.kernel)
            row = (key.tokens, key.heads, key.options, entry.config, entry.tier)
            rows.setdefault((key.op, key.rule, key.dtype, key.K, key.V), []).append(row)
    body = "".join(
        f"    {subject!r}: [\n{''.join(f'        {row!r},{chr(10)}' for row in found)}    ],\n"
        for subject, found in rows.items()
    )
    return _MODULE.format(
        gpu=table.gpu,
        arch=table.arch,
        kernels={op: tuple(sorted(some)) for op, some in kernels.items()},
        default=inspect.getsource(default_config),
        tiers=TIERS[:3],
        options=OPTIONS,
        bound=BOUND,
        entries=body,
    )
