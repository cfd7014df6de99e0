"""Known hazards of compilers and GPUs, from `hazards.toml`, and which of them a compiled launch meets."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import Version


@dataclass(frozen=True, slots=True, kw_only=True)
class Toolchain:
    """Versions of the compilers. ptxas: of NVIDIA's assembler for an architecture, None elsewhere."""

    triton: str
    ptxas: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Pattern:
    """The features of a launch that hazards look at. constants: its compile-time constants. dots: `tl.dot` in its source.

    family: the fastest tensor-core instructions in its code, "" where there are none.
    """

    arch: str
    num_warps: int
    num_stages: int
    family: str
    traits: frozenset[str]
    dots: int
    constants: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hazard:
    """A combination that has failed for others; `hazards.toml` explains each field."""

    id: str
    what: str
    source: tuple[str, ...]
    arch: tuple[str, ...]
    triton: SpecifierSet
    ptxas: SpecifierSet | None = None
    num_warps: tuple[int, ...] = ()
    num_stages: tuple[int, ...] = ()
    family: str = ""
    traits: frozenset[str] = frozenset()
    least_dots: int = 0
    constants: Mapping[str, Any] = field(default_factory=dict)
    at_most: Mapping[str, int] = field(default_factory=dict)

    def meets(self, pattern: Pattern, tools: Toolchain) -> bool:
        """Whether a launch is such a combination."""
        return (
            pattern.arch in self.arch
            and _within(self.triton, tools.triton)
            and (self.ptxas is None or (tools.ptxas is not None and _within(self.ptxas, tools.ptxas)))
            and (not self.num_warps or pattern.num_warps in self.num_warps)
            and (not self.num_stages or pattern.num_stages in self.num_stages)
            and (not self.family or pattern.family == self.family)
            and self.traits <= pattern.traits
            and pattern.dots >= self.least_dots
            and all(pattern.constants.get(name) == value for name, value in self.constants.items())
            and all(
                isinstance(size := pattern.constants.get(name), int) and size <= most
                for name, most in self.at_most.items()
            )
        )


@cache
def hazards() -> tuple[Hazard, ...]:
    """All of them. Raises ValueError, KeyError or TypeError if the data that ships is damaged."""
    data = tomllib.loads(Path(__file__).with_name("hazards.toml").read_text(encoding="utf-8"))
    return tuple(_hazard(row) for row in data["hazards"])


def _hazard(row: Mapping[str, Any]) -> Hazard:
    values: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    values["triton"] = SpecifierSet(row["triton"])
    values["traits"] = frozenset(row.get("traits", ()))
    if "ptxas" in row:
        values["ptxas"] = SpecifierSet(row["ptxas"])
    return Hazard(**values)


def _within(versions: SpecifierSet, version: str) -> bool:
    # A local build, 3.7.1+git, is of the release that it was made from.
    return versions.contains(Version(version).base_version, prereleases=True)
