"""The first time that a call is seen: check what was asked, and load the tables that may answer."""

from __future__ import annotations

import os
from functools import cache
from typing import Literal, get_args

from ..digests.kernels import STAGES, forget_digests
from ..schema.gpus import known_gpus, resolve
from ..schema.key import OPTIONS, Key, bucket
from ..schema.table import EVERYWHERE
from .choose import Answer, MinGate, Query, TableIndex, choose, index_tables
from .search_path import find_tables

MinTier = Literal["A", "B", "C"]

RULES = ("linear", "mamba2", "gla", "delta_rule", "gdn", "kda", "gdn2")
"""Those of the kernels of this package (`specs.rule.RULES`, which is not to be imported here)."""
REFERENCE = (8192, 64)
"""The (tokens, heads) that stand for all sizes of calls: for a look-up without sizes, and where reports compare stages."""


def answer_query(
    op: str,
    rule: str,
    dtype: str,
    K: int,
    V: int,
    tokens: int | None,
    heads: int | None,
    gpu: str,
    min_tier: MinTier,
    min_gate: MinGate,
    triton: str | None,
    driver: str | None,
    varlen: bool = False,
    state: bool = False,
    l2norm: bool = False,
    gate: bool = False,
    kernel_digest: str | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> Answer:
    """What `lookup` says of these arguments. Raises as it does."""
    if min_tier not in get_args(MinTier):
        raise ValueError(f"min_tier={min_tier!r}; accepted: A, B, C")
    if min_gate not in get_args(MinGate):
        raise ValueError(f"min_gate={min_gate!r}; accepted: interpreter, compiled, device")
    for name, size, least in (("K", K, 1), ("V", V, 1), ("tokens", tokens, 0), ("heads", heads, 1)):
        if size is not None and (not isinstance(size, int) or size < least):
            raise ValueError(f"{name}={size!r}; accepted: integers of {least} or more")
    if kernel_digest is None:
        if op not in STAGES:
            raise ValueError(f"op={op!r}; accepted: {', '.join(STAGES)}, or any other with its kernel_digest")
        if rule not in RULES:
            raise ValueError(f"rule={rule!r}; accepted: {', '.join(RULES)}, or any other with its kernel_digest")
    device = resolve(gpu)
    wanted = (varlen, state, l2norm, gate)
    key = Key(
        op=op,
        rule=rule,
        dtype=dtype,
        K=K,
        V=V,
        options=tuple(name for name, chosen in zip(OPTIONS, wanted, strict=True) if chosen),
        tokens=bucket(REFERENCE[0] if tokens is None else tokens),
        heads=bucket(REFERENCE[1] if heads is None else heads),
    )
    query = Query(
        key=key, gpu=device, kernel=kernel_digest, min_tier=min_tier, min_gate=min_gate, triton=triton, driver=driver
    )
    family = [other for other in known_gpus().values() if other.arch == device.arch and other != device]
    alike = sorted(family, key=lambda other: abs(other.sm_count - device.sm_count))
    return choose(
        query,
        _index((device.slug,), tables),
        lambda: _index(tuple(other.slug for other in alike), tables),
        lambda: _index((EVERYWHERE,), tables),
    )


def forget_files() -> None:
    """Read files and the environment again when they are needed next."""
    _index.cache_clear()
    forget_digests()


@cache
def _index(slugs: tuple[str, ...], tables: str | os.PathLike[str] | None) -> TableIndex:
    return index_tables(table for slug in slugs for table in find_tables(slug, tables))
