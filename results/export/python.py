"""A table as one Python module that needs nothing at all, for projects that want no dependency."""

from __future__ import annotations

import inspect
from typing import Any

from ..digests.kernels import STAGES
from ..schema.default import default_config
from ..schema.entry import TIERS, TableEntry
from ..schema.key import DTYPES, OPTIONS, bucket
from ..schema.table import Table
from ..serve.choose import BOUND
from ..serve.installed import installed_triton
from ..serve.query import RULES

_MODULE = '''"""Launch configurations of the gated delta rule for {gpu}, written by `autotune export --to python`."""

GPU = {gpu!r}
ARCH = {arch!r}
KERNELS = {kernels!r}
"""Digests of the kernels that the entries launch, by op."""

TIERS = {tiers!r}
GATES = ("compiled", "interpreter")
OPTIONS = {options!r}
OPS = {ops!r}
RULES = {rules!r}
DTYPES = {dtypes!r}
BOUND = {bound!r}

# (op, rule, dtype, K, V): [(tokens, heads, options, configuration, tier, triton, passed), ...], sizes as powers of two. triton:
# the one it was made with. passed: those under which an entry of tier C ran as compiled, without a fault; None: on the GPU.
ENTRIES = {{
{entries}}}


{bucket}

{installed}

INSTALLED = {{}}
SIZES = ("K", "V", "tokens", "heads")


def lookup(op, rule, dtype, K, V, tokens, heads, options=(), min_tier="C", min_gate="compiled", triton=None):
    """(configuration, tier) for a call.

    tokens: of the longest sequence. heads: sequences times value heads. options: names out of OPTIONS.
    The entry of the call's own bucket, else the nearest one, else (the safe default, "default").
    min_tier: A or B, timed on this GPU or one like it; C, the default, takes what was compiled and never timed, too.
    min_gate: "compiled", so that tier C is served only where it ran as compiled, on a CPU, under `triton` (the version
    installed here if None, and any if none is installed); "interpreter" takes the rest.
    Raises ValueError for what makes no sense.
    """
    if min_tier not in TIERS or min_gate not in GATES or not set(options) <= set(OPTIONS):
        raise ValueError("accepted: min_tier of %s, min_gate of %s, options out of %s" % (TIERS, GATES, OPTIONS))
    if op not in OPS or rule not in RULES or dtype not in DTYPES:
        raise ValueError("accepted: op of %s, rule of %s, dtype of %s" % (OPS, RULES, DTYPES))
    for name, size in zip(SIZES, (K, V, tokens, heads)):
        if type(size) is not int or size < (name != "tokens"):
            raise ValueError("%s=%r; accepted: integers of %d or more" % (name, size, name != "tokens"))
    if triton is None:
        if not INSTALLED:
            INSTALLED["triton"] = installed_triton()
        triton = INSTALLED["triton"]
    best = None
    for row in ENTRIES.get((op, rule, dtype, K, V), ()):
        far = abs(row[0].bit_length() - bucket(tokens).bit_length())
        far += abs(row[1].bit_length() - bucket(heads).bit_length())
        far += len(set(row[2]) ^ set(options))
        tier = "B" if row[4] == "A" and triton not in (None, row[5]) else row[4]
        ran = tier != "C" or row[6] is None or (triton in row[6] if triton else bool(row[6]))
        good = TIERS.index(tier) <= TIERS.index(min_tier) and (ran or min_gate == "interpreter")
        if far <= BOUND and good and (best is None or far < best[0]):
            best = far, row[3], tier
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
            row = (key.tokens, key.heads, key.options, entry.config, entry.tier, entry.triton, passed(entry))
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
        ops=tuple(dict.fromkeys((*STAGES, *(entry.key.op for entry in table.entries)))),
        rules=tuple(dict.fromkeys((*RULES, *(entry.key.rule for entry in table.entries)))),
        dtypes=DTYPES,
        installed=inspect.getsource(installed_triton),
        bound=BOUND,
        entries=body,
    )
