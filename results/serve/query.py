"""The first time that a call is seen: check the arguments, and load the tables that may answer."""

from __future__ import annotations

import os
import re
from functools import cache
from typing import Literal, get_args

from ..digests.kernels import STAGES, forget_digests
from ..schema.gpus import KnownGpu, forget_gpus, known_gpus, of_architecture, resolve
from ..schema.key import LARGEST_BUCKET, OPTIONS, Key, bucket
from ..schema.strict import DIGEST, TableError
from ..schema.table import EVERYWHERE
from .choose import Answer, MinGate, Query, TableIndex, choose, index_tables, untuned
from .installed import installed_triton
from .search_path import find_tables

_NAME = re.compile(r"(?=.*[A-Za-z0-9])[A-Za-z0-9 ()\[\]/_.,+-]{1,120}")
"""The names that a GPU may give itself."""

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
    gate_in_kernel: bool = False,
    kernel_digest: str | None = None,
    tables: str | os.PathLike[str] | None = None,
) -> Answer:
    """The answer of `lookup` to these arguments. Raises as it does."""
    if min_tier not in get_args(MinTier):
        raise ValueError(f"min_tier={min_tier!r}; accepted: A, B, C")
    if min_gate not in get_args(MinGate):
        raise ValueError(f"min_gate={min_gate!r}; accepted: interpreter, compiled, device")
    for name, size, least in (("K", K, 1), ("V", V, 1), ("tokens", tokens, 0), ("heads", heads, 1)):
        if size is None and name in ("tokens", "heads"):
            continue
        if type(size) is not int or not least <= size <= LARGEST_BUCKET:
            raise ValueError(f"{name}={size!r}; accepted: integers of {least} or more, {LARGEST_BUCKET} at most")
    flags = {"varlen": varlen, "state": state, "l2norm": l2norm, "gate_in_kernel": gate_in_kernel}
    for name, chosen in flags.items():
        if type(chosen) is not bool:
            raise ValueError(f"{name}={chosen!r}; accepted: True or False")
    for name, version in (("triton", triton), ("driver", driver)):
        if version is not None and not isinstance(version, str):
            raise ValueError(f"{name}={version!r}; accepted: a version, or None")
    if kernel_digest is not None and not (isinstance(kernel_digest, str) and DIGEST.fullmatch(kernel_digest)):
        raise ValueError(f"kernel_digest={kernel_digest!r}; accepted: a digest as records have it, or None")
    if tables is not None and not (isinstance(tables, str | os.PathLike) and os.fspath(tables)):
        raise ValueError(f"tables={tables!r}; accepted: a folder or file, or None")
    if kernel_digest is None:
        if op not in STAGES:
            raise ValueError(f"op={op!r}; accepted: {', '.join(STAGES)}, or any other with its kernel_digest")
        if rule not in RULES:
            raise ValueError(f"rule={rule!r}; accepted: {', '.join(RULES)}, or any other with its kernel_digest")
    device = _device(gpu)
    key = Key(
        op=op,
        rule=rule,
        dtype=dtype,
        K=K,
        V=V,
        options=tuple(name for name, chosen in zip(OPTIONS, flags.values(), strict=True) if chosen),
        tokens=bucket(REFERENCE[0] if tokens is None else tokens),
        heads=bucket(REFERENCE[1] if heads is None else heads),
    )
    if device is None:
        return untuned(key, f"{key} on {gpu}: no GPU of that name is known, and `autotune gpus` says how to add one")
    query = Query(
        key=key, gpu=device, kernel=kernel_digest, min_tier=min_tier, min_gate=min_gate, driver=driver,
        triton=_here() if triton is None else triton,
    )  # fmt: skip
    family = [other for other in known_gpus().values() if other.arch == device.arch and other != device]
    alike = sorted(
        family, key=lambda other: (abs(other.sm_count - device.sm_count), abs(other.memory_gib - device.memory_gib))
    )
    return choose(
        query,
        _index((device.slug,), tables),
        lambda: _index(tuple(other.slug for other in alike), tables),
        lambda: _index((EVERYWHERE,), tables),
    )


def forget_files() -> None:
    """Read files and the environment again when they are needed next."""
    _index.cache_clear()
    forget_gpus()
    forget_digests()
    _here.cache_clear()


_here = cache(installed_triton)


def _device(name: str) -> KnownGpu | None:
    """The GPU of this name, or any of the architecture of this name, or None. Raises ValueError for anything but a name."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(
            f"unknown GPU {name!r:.60}; known: {', '.join(known_gpus())}, and other names get the safe default"
        )
    try:
        return resolve(name)
    except TableError:
        raise
    except ValueError:
        return of_architecture(name.lower())


@cache
def _index(slugs: tuple[str, ...], tables: str | os.PathLike[str] | None) -> TableIndex:
    return index_tables(table for slug in slugs for table in find_tables(slug, tables))
