"""The GPUs that are known by name, and the limits of their programs.

`specs/gpus.toml` gives each figure's source.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from ..files.packaged import packaged
from ..files.user_folder import gpus_file
from .strict import NAME, Fields, TableError, parse

SCHEMA = 1
THREADS_PER_BLOCK = 1024
"""The same on every GPU of both vendors."""

_MEMORY_SLACK = 0.08
"""A device reports less memory than its name says, by the share that the driver and error correction keep."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """The resources of the launches of one configuration: the maximum over its stages.

    shared: bytes of shared memory per program. registers: per program, that is registers per thread times threads.
    threads: per program. All 0 where nothing is known.
    """

    shared: int
    registers: int
    threads: int

    @classmethod
    def of(cls, stages: list[tuple[int, int, int]]) -> Resources:
        """From (bytes of shared memory, registers per thread, threads) of every stage."""
        return cls(
            shared=max((shared for shared, _, _ in stages), default=0),
            registers=max((registers * threads for _, registers, threads in stages), default=0),
            threads=max((threads for _, _, threads in stages), default=0),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownGpu:
    """A GPU by slug. sm_count: multiprocessors (compute units). memory_gib: as the device reports it, roughly.

    shared_per_block: bytes that one program may have, opt-in included. registers_per_block: 32-bit registers likewise.
    """

    slug: str
    arch: str
    sm_count: int
    memory_gib: int
    shared_per_block: int
    registers_per_block: int
    aliases: tuple[str, ...] = ()

    @property
    def names(self) -> set[str]:
        """Slug and aliases, without the differences in spelling."""
        return {*map(plain, (self.slug, *self.aliases))}


@cache
def known_gpus() -> dict[str, KnownGpu]:
    """Every known GPU by slug, sorted: those that ship, and the user's own, which come before them where both have a slug.

    Raises TableError for data that is damaged.
    """
    gpus = dict(shipped_gpus())
    path = gpus_file()
    for fields in [] if path is None else _own(path):
        gpu = _of_family(fields)
        for other in gpus.values():
            taken = other.names & gpu.names
            if taken and other.slug != gpu.slug:
                raise TableError(f"{fields.where}: the name {min(taken)!r} is that of {other.slug} too")
        gpus[gpu.slug] = gpu
    return {slug: gpus[slug] for slug in sorted(gpus)}


@cache
def shipped_gpus() -> dict[str, KnownGpu]:
    """The GPUs that this package knows by itself."""
    fields = Fields(parse(packaged("gpus.json").read_text(encoding="utf-8"), "gpus.json"), "gpus.json")
    if fields.whole("schema") != SCHEMA:
        raise TableError(f"gpus.json: field 'schema' is not {SCHEMA}")
    gpus = []
    for row in fields.objects("gpus", "GPU"):
        gpus.append(_gpu(row))
        row.end()
    fields.end()
    return {gpu.slug: gpu for gpu in gpus}


def forget_gpus() -> None:
    """Read the user's own GPUs again when they are needed next."""
    known_gpus.cache_clear()


def of_architecture(arch: str) -> KnownGpu | None:
    """A GPU of an architecture of which nothing else is known: it has the least values of the known ones."""
    family = [gpu for gpu in known_gpus().values() if gpu.arch == arch]
    if not family:
        return None
    return KnownGpu(
        slug=arch,
        arch=arch,
        sm_count=min(gpu.sm_count for gpu in family),
        memory_gib=min(gpu.memory_gib for gpu in family),
        shared_per_block=min(gpu.shared_per_block for gpu in family),
        registers_per_block=min(gpu.registers_per_block for gpu in family),
    )


def resolve(name: str) -> KnownGpu:
    """The GPU of this slug or marketing name, however it is spaced and capitalised.

    Raises ValueError listing the known.
    """
    wanted = plain(name) if isinstance(name, str) else None
    for gpu in known_gpus().values():
        if wanted in gpu.names:
            return gpu
    raise ValueError(f"unknown GPU {name!r}; known: {', '.join(known_gpus())}")


def identify(arch: str, sm_count: int, memory_gib: float, name: str) -> KnownGpu | None:
    """The GPU that a device with these properties is, or None. name: as the device reports it.

    Names differ by vendor and board, and a slice of a GPU has the name of the whole, so a name only decides between GPUs that
    have these properties. Where it is nobody's, the nearest in memory is taken, and of equals the one with the shortest name:
    boards are called after the first of their kind.
    """
    wanted = plain(name)
    alike = [
        gpu
        for gpu in known_gpus().values()
        if (gpu.arch, gpu.sm_count) == (arch, sm_count) and abs(memory_gib / gpu.memory_gib - 1) <= _MEMORY_SLACK
    ]
    return min(
        alike,
        key=lambda gpu: (wanted not in gpu.names, abs(memory_gib / gpu.memory_gib - 1), min(map(len, gpu.names))),
        default=None,
    )


def excess(resources: Resources, gpu: KnownGpu) -> str | None:
    """The resource of which a program needs more than `gpu` has, or None."""
    over = over_limit(resources, gpu.slug, shared=gpu.shared_per_block, registers=gpu.registers_per_block)
    return f"needs {over}" if over else None


def over_limit(resources: Resources, name: str, *, shared: int, registers: int) -> str | None:
    """The first of these resources that exceeds its limit per program, or None. name: of the device, for the message."""
    for needed, limit, what in (
        (resources.shared, shared, "bytes of shared memory"),
        (resources.registers, registers, "registers"),
        (resources.threads, THREADS_PER_BLOCK, "threads"),
    ):
        if needed > limit:
            return f"{needed} {what}, {name} has {limit}"
    return None


def plain(name: str) -> str:
    """A name without the differences in spelling: capitals, spaces and marks."""
    return re.sub(r"[^a-z0-9]", "", name.casefold())


def _gpu(fields: Fields) -> KnownGpu:
    gpu = KnownGpu(
        slug=fields.text("slug", NAME),
        arch=fields.text("arch", NAME),
        sm_count=fields.whole("sm_count", 1),
        memory_gib=fields.whole("memory_gib", 1),
        shared_per_block=fields.whole("shared_per_block", 1),
        registers_per_block=fields.whole("registers_per_block", 1),
        aliases=fields.texts("aliases", re.compile(r"[A-Za-z0-9 -]+")),
    )
    return gpu


def _own(path: Path) -> list[Fields]:
    # Most have no such file, and need not wait for its reader.
    from .own_gpus import read_own

    return read_own(path)


def _of_family(fields: Fields) -> KnownGpu:
    """A user's GPU, with the limits of its architecture where a GPU that ships has them."""
    arch = fields.peek("arch")
    family = next((gpu for gpu in shipped_gpus().values() if gpu.arch == arch), None)
    if family is not None:
        fields.default("shared_per_block", family.shared_per_block)
        fields.default("registers_per_block", family.registers_per_block)
    return _gpu(fields)
