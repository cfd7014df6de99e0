"""The GPUs that are known by name: limits, peaks and their sources, read from `gpus.toml`, and the user's own."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

from ..results.files.user_folder import gpus_file
from ..results.schema.gpus import plain
from ..results.schema.own_gpus import read_tables

REGISTERS_PER_THREAD = 255
"""The most that either vendor's compilers give a thread before they spill; AMD's accumulation registers come on top. (CUDA C++
Programming Guide, table of technical specifications per compute capability.)"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The limits of a program on an architecture; `gpus.toml` explains each field. Sizes in bytes or 32-bit registers."""

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

    def family(self, counts: Mapping[str, int]) -> str:
        """The fastest family among the tensor-core instructions of a program; "" where it has none. counts: by family."""
        return next((name for name in self.families if counts.get(name)), "")

    def registers_of_warp(self, per_thread: int) -> int:
        """Registers that a warp takes: they are given in granules."""
        return -(-per_thread * self.warp // self.registers_granule) * self.registers_granule

    def registers_of_program(self, per_thread: int, warps: int) -> int:
        """Registers that a program takes: they are given to four warps at a time."""
        return self.registers_of_warp(per_thread) * -(-warps // 4) * 4


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
    """The GPU of this slug or alias, in any spacing and capitals. Raises ValueError that lists the known ones and says how to add
    one, or that names the fault of the user's own file.
    """
    for known in gpus().values():
        if plain(name) in map(plain, (known.slug, *known.aliases)):
            return known
    raise ValueError(f"unknown GPU {name!r}; known: {', '.join(gpus())}; `autotune gpus` says how to add one")


def gpus() -> dict[str, Gpu]:
    """Every known GPU by slug: those that ship, and those of the user, which come before them where both have a slug.

    Raises ValueError, in one line, for a fault of the file.
    """
    path = gpus_file()
    if path is None:
        return shipped()
    found = {**shipped(), **_own(path)}
    return {slug: found[slug] for slug in sorted(found)}


@cache
def shipped() -> dict[str, Gpu]:
    """The GPUs that ship, by slug. Raises ValueError, KeyError or TypeError if their data is damaged."""
    data = _data()
    architectures = _architectures()
    found = {}
    for slug, row in sorted(data["gpus"].items()):
        found[slug] = Gpu(slug=slug, arch=architectures[row["arch"]], **_tuples(row))
        if unknown := {*found[slug].source, *found[slug].arch.source} - set(data["sources"]):
            raise ValueError(f"gpus.toml: {slug} names unknown sources: {', '.join(sorted(unknown))}")
    return found


def _own(path: Path) -> dict[str, Gpu]:
    rows, limits = read_tables(path)
    architectures = _architectures()
    for name, row in limits.items():
        architectures[name] = _made(Architecture, row, f"{path}: architectures.{name}", name=name)
    found = {}
    for slug, row in rows.items():
        where = f"{path}: gpus.{slug}"
        arch = row.get("arch")
        if not isinstance(arch, str) or arch not in architectures:
            raise ValueError(
                f"{where}: arch is {arch!r}; known: {', '.join(architectures)}, or an [architectures.NAME]"
            )
        found[slug] = _made(Gpu, row, where, slug=slug, arch=architectures[arch])
    return found


def _made(kind: type[Any], row: dict[str, Any], where: str, **given: Any) -> Any:
    """An Architecture or a Gpu from a row of a user's file. Raises ValueError that names the field."""
    types = {field.name: str(field.type) for field in fields(kind)}
    row = {"source": [], **({"aliases": []} if kind is Gpu else {}), **row}
    for name, expected in types.items():
        if name in given:
            continue
        if name not in row:
            raise ValueError(f"{where}: field {name!r} is missing")
        value = row[name]
        if expected.startswith("tuple"):
            good, words = isinstance(value, list) and all(isinstance(one, str) for one in value), "a list of names"
        else:
            number = (int,) if expected == "int" else (int, float)
            good = type(value) in number and 0 <= value < 2**53 and (value > 0 or name == "shared_reserved")
            words = "a whole number above 0" if expected == "int" else "a number above 0"
        if not good:
            raise ValueError(f"{where}: field {name!r} is {value!r}, expected {words}")
    if unknown := sorted(set(row) - set(types)):
        raise ValueError(f"{where}: unknown field {unknown[0]!r}")
    return kind(**given, **_tuples({name: row[name] for name in types if name not in given}))


@cache
def _data() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name("gpus.toml").read_text(encoding="utf-8"))


def _architectures() -> dict[str, Architecture]:
    return {name: Architecture(name=name, **_tuples(row)) for name, row in _data()["architectures"].items()}


def _tuples(row: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in row.items() if name != "arch"}
