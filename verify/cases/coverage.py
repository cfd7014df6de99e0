"""The coverage that a profile demands, counted from the cases judged: sizes of calls, and axes and loops of kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from ...specs.problem import Problem

SIZES: dict[str, Callable[[Problem], bool]] = {
    "K = V = 128": lambda problem: problem.K == problem.V == 128,
    "K or V in 73..255": lambda problem: any(73 <= size <= 255 and size != 128 for size in (problem.K, problem.V)),
    "K = V = 256": lambda problem: problem.K == problem.V == 256,
    **{f"HV / H = {group}": lambda problem, group=group: group * problem.H == problem.HV for group in (1, 2, 3, 4)},
    "K = 64": lambda problem: problem.K == 64,
    **{
        f"K = 128, HV / H = {group}": lambda problem, group=group: problem.K == 128 and group * problem.H == problem.HV
        for group in (2, 4)
    },
    "K = 128, no initial state": lambda problem: problem.K == 128 and not problem.initial_state,
    "B x HV > 16": lambda problem: problem.B * problem.HV > 16,
    "B x HV > 16, K >= 64": lambda problem: problem.B * problem.HV > 16 and problem.K >= 64,
    "> 64 sequences": lambda problem: len(problem.sequences) > 64,
    "T > 512": lambda problem: problem.lengths is None and problem.T > 512,
    "T > 2048": lambda problem: problem.lengths is None and problem.T > 2048,
    "a packed sequence of more than 512 tokens": lambda problem: max(problem.lengths or (0,)) > 512,
    "|scale| > 1": lambda problem: abs(problem.effective_scale) > 1,
    "bf16": lambda problem: problem.dtype == "bf16",
    "bf16, K = V = 128": lambda problem: problem.dtype == "bf16" and problem.K == problem.V == 128,
    "bf16, K = 128, T > 140": lambda problem: problem.dtype == "bf16" and problem.K == 128 and problem.T > 140,
    "fp16": lambda problem: problem.dtype == "fp16",
    "fp16, K = 128": lambda problem: problem.dtype == "fp16" and problem.K == 128,
}
"""Sizes of a call by name."""

CANNOT: dict[str, str] = {}
"""What cannot occur in our kernels, with its reason: a second one of "program <kernel> <axis>" or "loop <function>:<line>", and a
side of a mask, branch or flag, as "off mask <function>:<line>" (`interpreter.covering`)."""


SORTS = {
    "mask": ("masks", "true", "false"),
    "branch": ("branches", "taken", "not taken"),
    "flag": ("flags", "true", "false"),
}
"""What has two sides: more than one of them, and the words for its sides."""
_TOLD = 12
"""Sides that a report names."""


def of_problems(problems: Iterable[Problem]) -> set[str]:
    """The sizes that problems have."""
    return {name for problem in problems for name, has in SIZES.items() if has(problem)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """counts: cells that covered each size. ran: grid axes and loops that ran; repeated: those with a second program or trip.
    sides: by sort (`SORTS`), masks, branches and flags of which both sides were met, and those that were met.

    missing: sizes that the profile demands and no cell covered. absent: axes and loops that never had a second program or trip.
    one_sided: masks, branches and flags that were never true, or never false. idle: kernels that no run launched. What cannot
    occur is in none of these.
    """

    counts: dict[str, int]
    ran: int
    repeated: int
    missing: tuple[str, ...]
    absent: tuple[str, ...]
    sides: dict[str, tuple[int, int]] = field(default_factory=dict)
    one_sided: tuple[str, ...] = ()
    idle: tuple[str, ...] = ()

    @property
    def gaps(self) -> bool:
        """Whether anything that could occur was not covered."""
        return bool(self.missing or self.absent or self.one_sided or self.idle)

    def lines(self) -> list[str]:
        """In words, for a report."""
        sizes = ", ".join(f"{name} ({count})" for name, count in self.counts.items() if count)
        found = [f"covered: {sizes or 'no size that is asked for'}"] if sizes or self.missing else []
        if self.ran:
            found.append(
                f"covered: a second program or trip of {self.repeated} of {self.ran} grid axes and loops that ran"
            )
        if self.sides:
            words = [f"{both} of {met} {SORTS[sort][0]}" for sort, (both, met) in self.sides.items()]
            found.append(f"covered: both sides of {', '.join(words)}")
        if self.gaps:
            words = [*self.missing, *(f"a second {what}" for what in self.absent)]
            words += [_side(one) for one in self.one_sided[:_TOLD]]
            words += [f"{more} more sides" for more in [len(self.one_sided) - _TOLD] if more > 0]
            words += [f"{kernel}, which nothing launched" for kernel in self.idle]
            found.append(f"not covered: {'; '.join(words)}")
        return found


def _side(fact: str) -> str:
    """A side of a mask, branch or flag in words."""
    side, _, site = fact.partition(" ")
    return f"{site} {SORTS[site.split()[0]][1 if side == 'on' else 2]}"


def coverage(facts: Iterable[Sequence[str]], must: Sequence[str], kernels: Sequence[str] = ()) -> Coverage:
    """The joint coverage of cells. facts: of each, sizes by name, `ran` with a kernel, `seen` or `more` with a grid axis or loop,
    `on` or `off` with a mask, branch or flag.

    kernels: those that the target could launch.
    """
    every = [set(one) for one in facts]
    together = set().union(*every)
    seen = {fact.removeprefix("seen ") for fact in together if fact.startswith("seen ")}
    more = {fact.removeprefix("more ") for fact in together if fact.startswith("more ")}
    sides = {fact for fact in together if fact.startswith(("on ", "off "))}
    sites = sorted({fact.partition(" ")[2] for fact in sides})
    absent_sides = [side for site in sites for side in (f"on {site}", f"off {site}") if side not in sides]
    whole = {site: f"on {site}" in sides and f"off {site}" in sides for site in sites}
    by_sort = {sort: [both for site, both in whole.items() if site.startswith(sort)] for sort in SORTS}
    counts = {name: sum(name in one for one in every) for name in dict.fromkeys((*SIZES, *must))}
    return Coverage(
        counts=counts,
        ran=len(seen),
        repeated=len(seen & more),
        missing=tuple(name for name in must if not counts[name]),
        sides={sort: (sum(some), len(some)) for sort, some in by_sort.items() if some},
        one_sided=tuple(side for side in absent_sides if side not in CANNOT),
        idle=tuple(kernel for kernel in kernels if f"ran {kernel}" not in together),
        absent=tuple(sorted(what for what in seen - more if what not in CANNOT)),
    )
