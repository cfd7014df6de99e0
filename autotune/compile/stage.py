"""The compile stage: every point once, whatever rule or op it serves, however often the run is cut short."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from ...results.schema.strict import TableError
from ...specs.gpus import Architecture
from ...verify.process.pool import Failure, Workers
from ..space.points import Family, Point, breadth_first
from . import compiler
from .binary import Compilation
from .cache import Cache

PLAN_SECONDS = 600.0
COMPILE_SECONDS = 300.0
"""After which a compilation counts as hanging. The slowest that ended took a quarter of it, on a busy machine."""

OnPoint = Callable[[Point, Compilation], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPoints:
    """What the stage came to. found: by point. left: points that a budget did not reach, by family.

    ran, cached: compilations that were run and that were known. busy, cpu: seconds inside the compiler and of processor time,
    summed over processes; wall: seconds the compilations took together.
    """

    found: Mapping[Point, Compilation]
    left: Mapping[Family, int]
    ran: int = 0
    cached: int = 0
    busy: float = 0.0
    cpu: float = 0.0
    wall: float = 0.0


@dataclass(slots=True, kw_only=True)
class Progress:
    """Told how the stage goes; the command shows a bar. total: compilations that are to be run."""

    begin: Callable[[str, int], object] = field(default=lambda text, total: None)
    step: Callable[[str], object] = field(default=lambda text: None)


def compile_points(
    points: Sequence[Point],
    arch: Architecture,
    workers: Workers,
    cache: Cache,
    *,
    on_point: OnPoint = lambda point, compilation: None,
    progress: Progress | None = None,
    deadline: float = math.inf,
    timeout: float = COMPILE_SECONDS,
) -> CompiledPoints:
    """Compile what the cache does not know. `on_point` is told of every point as soon as its outcome is on disk.

    deadline: of time.monotonic(); what has not begun by then is left. KeyboardInterrupt passes through, and nothing that
    was compiled is lost.
    """
    progress = progress or Progress()
    by_name = _name(points, arch, workers, progress)
    found: dict[Point, Compilation] = {}
    waiting: dict[str, list[Point]] = {}
    for name, sharing in by_name.items():
        known = cache.get(name)
        if known is None:
            waiting[name] = sharing
        else:
            _take(found, sharing, known, on_point)
    cached = len(by_name) - len(waiting)
    tasks = {point: name for name, sharing in waiting.items() for point in sharing[:1]}
    order = breadth_first(tasks)
    progress.begin("compiling", len(order))
    started, busy, cpu, ran = time.monotonic(), 0.0, 0.0, 0
    arguments = [(point, arch.target) for point in order]
    for index, result in workers.run(compiler.compile_point, arguments, timeout, deadline):
        point = order[index]
        outcome = failed(result, timeout) if isinstance(result, Failure) else result
        # A crash or a timeout may be this machine's fault: the next run tries again.
        if outcome.outcome in ("compiled", "compile"):
            cache.put(tasks[point], outcome)
        _take(found, waiting.pop(tasks[point]), outcome, on_point)
        progress.step(str(point))
        busy, cpu, ran = busy + outcome.seconds, cpu + outcome.cpu, ran + 1
    left: dict[Family, int] = defaultdict(int)
    for sharing in waiting.values():
        for point in sharing:
            left[point.family] += 1
    wall = time.monotonic() - started if ran else 0.0
    return CompiledPoints(found=found, left=dict(left), ran=ran, cached=cached, busy=busy, cpu=cpu, wall=wall)


def _name(points: Sequence[Point], arch: Architecture, workers: Workers, progress: Progress) -> dict[str, list[Point]]:
    """Points by cache key; those that share one are the same kernel, specialised alike."""
    by_family: dict[Family, list[Point]] = defaultdict(list)
    for point in points:
        by_family[point.family].append(point)
    groups = list(by_family.values())
    progress.begin("recording launches", len(groups))
    names: dict[Point, str] = {}
    for index, result in workers.run(compiler.name_points, [(group, arch.target) for group in groups], PLAN_SECONDS):
        if isinstance(result, Failure):
            raise TableError(f"recording the launches of {groups[index][0].family} ended in a {result.outcome}")
        names.update(zip(groups[index], result, strict=True))
        progress.step(str(groups[index][0].family))
    by_name: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        by_name[names[point]].append(point)
    return by_name


def _take(found: dict[Point, Compilation], sharing: list[Point], outcome: Compilation, on_point: OnPoint) -> None:
    for point in sharing:
        found[point] = outcome
        on_point(point, outcome)


def failed(failure: Failure, timeout: float) -> Compilation:
    """What a compiling process that gave no result came to."""
    if failure.outcome == "timeout":
        return Compilation(outcome="timeout", seconds=timeout, detail=f"no end after {timeout:g} s")
    return Compilation(outcome="crash", seconds=0.0, detail="the compiling process died, twice")
