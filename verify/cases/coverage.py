"""The coverage that a profile demands, counted from the cases judged: sizes of calls, and axes and loops of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from ...specs.problem import Problem

SIZES: dict[str, Callable[[Problem], bool]] = {
    "K = V = 128": lambda problem: problem.K == problem.V == 128,
    "K or V in 73..255": lambda problem: any(73 <= size <= 255 and size != 128 for size in (problem.K, problem.V)),
    "K = V = 256": lambda problem: problem.K == problem.V == 256,
    **{f"HV / H = {group}": lambda problem, group=group: group * problem.H == problem.HV for group in (1, 2, 3, 4)},
    "B x HV > 16": lambda problem: problem.B * problem.HV > 16,
    "> 64 sequences": lambda problem: len(problem.sequences) > 64,
    "T > 512": lambda problem: problem.lengths is None and problem.T > 512,
    "T > 2048": lambda problem: problem.lengths is None and problem.T > 2048,
    "bf16": lambda problem: problem.dtype == "bf16",
    "fp16": lambda problem: problem.dtype == "fp16",
}
"""Sizes of a call by name."""

CANNOT: dict[str, str] = {}
"""Second programs and trips that cannot occur in our kernels, as "program <kernel> <axis>" or "loop <function>:<line>", with its
reason."""


def of_problems(problems: Iterable[Problem]) -> set[str]:
    """The sizes that problems have."""
    return {name for problem in problems for name, has in SIZES.items() if has(problem)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """counts: cells that covered each size. ran: grid axes and loops that ran; repeated: those with a second program or trip.

    missing: sizes that the profile demands and no cell covered. absent: axes and loops that never had a second program or trip.
    """

    counts: dict[str, int]
    ran: int
    repeated: int
    missing: tuple[str, ...]
    absent: tuple[str, ...]

    def lines(self) -> list[str]:
        """In words, for a report."""
        sizes = ", ".join(f"{name} ({count})" for name, count in self.counts.items() if count)
        found = [f"covered: {sizes or 'no size that is asked for'}"]
        if self.ran:
            found.append(
                f"covered: a second program or trip of {self.repeated} of {self.ran} grid axes and loops that ran"
            )
        if self.missing or self.absent:
            words = [*self.missing, *(f"a second {what}" for what in self.absent)]
            found.append(f"not covered: {'; '.join(words)}")
        return found


def coverage(facts: Iterable[Sequence[str]], must: Sequence[str]) -> Coverage:
    """The joint coverage of cells. facts: of each, sizes by name, and `seen` or `more` with a grid axis or loop of a kernel."""
    every = [set(one) for one in facts]
    together = set().union(*every)
    seen = {fact.removeprefix("seen ") for fact in together if fact.startswith("seen ")}
    more = {fact.removeprefix("more ") for fact in together if fact.startswith("more ")}
    counts = {name: sum(name in one for one in every) for name in SIZES}
    return Coverage(
        counts=counts,
        ran=len(seen),
        repeated=len(seen & more),
        missing=tuple(name for name in must if not counts[name]),
        absent=tuple(sorted(what for what in seen - more if what not in CANNOT)),
    )
