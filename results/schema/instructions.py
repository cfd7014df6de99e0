"""Instructions of a compiled program by class, outside and inside of its loops, and how many one warp issues."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .strict import Fields

_CLASS = re.compile(r"[a-z0-9 ]{1,30}")
_MOST = 1 << 24
"""No program has as many of any class."""
_DEEPEST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Loop:
    """depth: 0 for one that is in no other. own: instructions by class, without those of inner loops."""

    depth: int
    own: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Instructions:
    """straight: instructions outside of loops, by class. loops: in order, outer ones before those inside."""

    straight: Mapping[str, int]
    loops: tuple[Loop, ...] = ()

    def __post_init__(self) -> None:
        deepest = -1
        for loop in self.loops:
            if loop.depth > deepest + 1:
                raise ValueError(f"a loop of depth {loop.depth} behind one of depth {deepest}")
            deepest = loop.depth

    @property
    def static(self) -> int:
        """How many the program has."""
        return sum(self.straight.values()) + sum(sum(loop.own.values()) for loop in self.loops)

    @property
    def serial(self) -> Loop | None:
        """The outermost loop with the most instructions, those of its inner loops included."""
        outer = (loop for loop in self.loops if loop.depth == 0)
        return max(outer, key=lambda loop: sum(self.step(loop, lambda _: 1).values()), default=None)

    @property
    def unrolled(self) -> int:
        """Copies of its body that the serial loop is made of, by the products of the one to three that are left over."""
        loop = self.serial
        inside = self.step(loop, lambda _: 1)["tensor core"] if loop else 0
        body = inside - self.straight.get("tensor core", 0)
        return inside // body if body > 0 and inside in (2 * body, 4 * body) else 1

    @property
    def buffers(self) -> int:
        """Copies of the serial loop's inputs that are in flight or in use, by its asynchronous copies; 1 without any."""
        loop = self.serial
        inside = self.step(loop, lambda _: 1)["async copy"] if loop else 0
        return 1 + -(-self.straight.get("async copy", 0) // inside) if inside else 1

    def issued(self, trips: Callable[[Loop], int]) -> Counter[str]:
        """Instructions of one warp, by class, where a loop runs `trips` times each time that it is reached."""
        total = _times(self.loops, 0, trips)
        total.update(self.straight)
        return total

    def step(self, loop: Loop, trips: Callable[[Loop], int]) -> Counter[str]:
        """Instructions of one warp in one trip of a loop of this program, by class."""
        place = next(place for place, other in enumerate(self.loops) if other is loop)
        inner = [loop]
        for other in self.loops[place + 1 :]:
            if other.depth <= loop.depth:
                break
            inner.append(other)
        return _times(inner, loop.depth, lambda other: 1 if other is loop else trips(other))


def _times(loops: Sequence[Loop], outermost: int, trips: Callable[[Loop], int]) -> Counter[str]:
    """Instructions of these loops, of which the outermost have this depth."""
    total, times = Counter[str](), [1]
    for loop in loops:
        depth = loop.depth - outermost
        times = [*times[: depth + 1], times[depth] * trips(loop)]
        total.update({name: count * times[-1] for name, count in loop.own.items()})
    return total


def instructions_to_json(instructions: Instructions) -> dict[str, Any]:
    loops = [{"depth": loop.depth, "own": dict(loop.own)} for loop in instructions.loops]
    return {"straight": dict(instructions.straight), "loops": loops}


def instructions_from_json(row: Fields) -> Instructions:
    """Reads `instructions_to_json` back. Raises TableError."""
    loops = []
    for loop in row.objects("loops", "loop"):
        loops.append(Loop(depth=loop.whole("depth", most=_DEEPEST), own=_counts(loop.object("own"))))
        loop.end()
    found = row.made(Instructions, straight=_counts(row.object("straight")), loops=tuple(loops))
    row.end()
    return found


def _counts(row: Fields) -> dict[str, int]:
    found = {name: row.whole(name, most=_MOST) for name in row.names if _CLASS.fullmatch(name)}
    row.end()
    return found
