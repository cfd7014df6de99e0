"""The GPUs that are known by name: limits, peaks and their sources, read from `gpus.toml`."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

REGISTERS_PER_THREAD = 255
"""The most that either vendor's compilers give a thread before they spill; AMD's accumulation registers come on top. (CUDA C++
Programming Guide, table of technical specifications per compute capability.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """What a program may use on an architecture; `gpus.toml` says what each field is. Sizes in bytes or 32-bit registers."""

    name: str
    warp: int
    registers_per_sm: int
    registers_per_block: int
    registers_granule: int
    shared_per_sm: int
    shared_per_block: int
    shared_reserved: int
    warps_per_sm: int
    blocks_per_sm: int
    families: tuple[str, ...]
    source: tuple[str, ...]

    @property
    def backend(self) -> str:
        """Triton's name of the back end."""
        return "cuda" if self.name.startswith("sm_") else "hip"

    @property
    def target(self) -> tuple[str, int | str, int]:
        """(backend, arch, warp), as `triton.backends.compiler.GPUTarget` takes them."""
        return self.backend, int(self.name[3:]) if self.backend == "cuda" else self.name, self.warp


@dataclass(frozen=True, slots=True, kw_only=True)
class Gpu:
    """A GPU by slug, with the peaks that the cost model uses. Units are in the names; source: names of the figures' sources."""

    slug: str
    aliases: tuple[str, ...]
    arch: Architecture
    sm_count: int
    memory_gib: int
    bandwidth_gbs: float
    bf16_tflops: float
    fp32_tflops: float
    l2_mib: float
    clock_mhz: float
    source: tuple[str, ...]


def gpu(name: str) -> Gpu:
    """The GPU of this slug or alias, however it is spaced and capitalised.

    Raises ValueError that lists the known ones and says how to add one.
    """
    for known in gpus().values():
        if _plain(name) in map(_plain, (known.slug, *known.aliases)):
            return known
    raise ValueError(f"unknown GPU {name!r}; known: {', '.join(gpus())}; specs/gpus.toml says how to add one")


@cache
def gpus() -> dict[str, Gpu]:
    """Every known GPU by slug. Raises ValueError, KeyError or TypeError if the data that ships is damaged."""
    data = tomllib.loads(Path(__file__).with_name("gpus.toml").read_text(encoding="utf-8"))
    architectures = {name: Architecture(name=name, **_tuples(row)) for name, row in data["architectures"].items()}
    found = {}
    for slug, row in sorted(data["gpus"].items()):
        arch = architectures[row.pop("arch")]
        found[slug] = Gpu(slug=slug, arch=arch, **_tuples(row))
        if unknown := {*found[slug].source, *arch.source} - set(data["sources"]):
            raise ValueError(f"gpus.toml: {slug} names sources that are not there: {', '.join(sorted(unknown))}")
    return found


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
