"""How much to check: quick while editing, merge before merging, nightly while nobody waits."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from ...specs.rule import NAMED
from .coverage import SIZES
from .production import SHAPES

Name = Literal["quick", "merge", "nightly"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Sizes and counts of one profile.

    tokens, channels: the largest T (or sum of packed lengths) and the largest K and V. wide: a K or V that is drawn now
    and then beyond `channels`, 0 for none. rows: the most B x HV. sequences: the most packed sequences.
    examples: cases drawn per cell of a property whose check costs one call. regressions: known edge cases before them.
    pairs: problems that hold every pair of options, before them too, for the properties that want them.
    shapes: names of the production shapes (`cases.production`) that every kernel meets on one rule, of the properties that
    want them. styles: the most call styles of a cell.
    must: sizes of calls (`cases.coverage`) that a run of our own kernels has to have covered. everything: and a second program
    or trip of all that ran.
    rules: on how many rules every kernel and property are judged; which ones changes from cell to cell. dear, dear_rules: the
    same of properties whose check costs `dear` calls of the kernel or more. systems: the same of those that judge systems, where
    one says little of another.
    shrink_cases: over how many cases of a property whose check costs one call a failure is made smaller.
    cell_seconds: of the processor's time, after which a cell is given up.
    """

    name: Name
    tokens: int
    channels: int
    wide: int
    rows: int
    sequences: int
    examples: int
    regressions: int
    pairs: int
    shapes: tuple[str, ...]
    styles: int
    must: tuple[str, ...]
    everything: bool
    rules: int
    dear: int
    dear_rules: int
    systems: int
    shrink_cases: int
    cell_seconds: float

    @property
    def drawn(self) -> Profile:
        """The same without the cases that are alike for every seed."""
        return replace(self, pairs=0, shapes=(), styles=0)


PROFILES: dict[str, Profile] = {
    profile.name: profile
    for profile in (
        Profile(name="quick", tokens=70, channels=40, wide=0, rows=4, sequences=4, examples=2, regressions=1, pairs=1,
                shapes=("served", "grouped"), styles=2, must=("K = V = 128", "K = 128, HV / H = 4"), everything=False,
                rules=2, dear=6, dear_rules=1, systems=1, shrink_cases=30, cell_seconds=240),
        Profile(name="merge", tokens=140, channels=72, wide=256, rows=4, sequences=5, examples=6, regressions=3, pairs=100,
                shapes=tuple(SHAPES), styles=100, must=tuple(SIZES), everything=True,
                rules=len(NAMED), dear=2, dear_rules=4, systems=len(NAMED), shrink_cases=80, cell_seconds=600),
        Profile(name="nightly", tokens=300, channels=136, wide=256, rows=8, sequences=8, examples=40, regressions=100, pairs=100,
                shapes=tuple(SHAPES), styles=100, must=tuple(SIZES), everything=True,
                rules=len(NAMED), dear=2, dear_rules=len(NAMED), systems=len(NAMED), shrink_cases=800, cell_seconds=3600),
    )
}  # fmt: skip
"""The profiles by name."""

DRAWN = "-drawn"
"""After the name of a profile: only what it draws."""


def named(name: str) -> Profile:
    """The profile of this name, such as `merge` or `merge-drawn`."""
    whole = PROFILES[name.removesuffix(DRAWN)]
    return whole.drawn if name.endswith(DRAWN) else whole
