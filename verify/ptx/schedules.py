"""Orders in which warps may run, all of them legal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One order of a program's warps and of its asynchronous work.

    policy: 0 an instruction of each warp in turn; 1 the first warp until it waits; 2 the last warp until it waits; 3 and 4
    random turns of up to 16 and 256 instructions. late: asynchronous work happens as late as its wait allows, else at once.
    backwards: programs of the grid run last first. fill: byte that memory and registers hold before they are written.
    """

    name: str
    policy: int
    late: bool
    backwards: bool = False
    seed: int = 1
    fill: int = 0xFF


ROUND_ROBIN = Schedule(name="round robin, early", policy=0, late=False)
LAST_FIRST = Schedule(name="last warp first, late", policy=2, late=True, backwards=True, fill=0x00)
RANDOM = Schedule(name="random, late", policy=3, late=True, seed=7, fill=0x3C)
FIRST_FIRST = Schedule(name="first warp first, late", policy=1, late=True, fill=0xFF)

QUICK = (ROUND_ROBIN, LAST_FIRST, RANDOM)
"""The schedules of a gate."""

ALL = (*QUICK, FIRST_FIRST)


def random_schedules(count: int, seed: int = 0) -> tuple[Schedule, ...]:
    """Random orders, short turns and long ones, each with its own seed."""
    return tuple(
        Schedule(
            name=f"random {seed + i}, {'late' if i % 4 else 'early'}", policy=3 + i % 2, late=bool(i % 4), seed=seed + i + 11,
            backwards=bool(i % 2), fill=(0xFF, 0x00, 0x3C)[i % 3],
        )
        for i in range(count)
    )  # fmt: skip
