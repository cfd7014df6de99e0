"""The compile stage: every program once for all the points, rules and ops that it serves, however often the run is cut short."""

from __future__ import annotations

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from ...results.schema.strict import TableError
from ...specs.gpus import Architecture
from ...verify.compile.compilation import Cache, Compilation
from ...verify.compile.process import COMPILE_SECONDS
from ...verify.compile.programs import compile_each
from ...verify.process.pool import Failure, Workers
from ...verify.process.progress import Progress
from ..space.points import Family, Point, breadth_first
from . import compiler

PLAN_SECONDS = 600.0

OnPoint = Callable[[Point, Compilation], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledPoints:
    """The results of the stage. found: by point, see `joined`. left: points that a budget did not reach, by family.

    ran, cached: compilations of programs that were run and that were known. busy, cpu: seconds inside the compiler and of
    processor time, summed over processes; wall: seconds the compilations took together.
    """

    found: Mapping[Point, Compilation]
    left: Mapping[Family, int]
    ran: int = 0
    cached: int = 0
    busy: float = 0.0
    cpu: float = 0.0
    wall: float = 0.0


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
    """Compile the programs that the cache does not know. `on_point` is told of every point as soon as its outcome is on disk.

    deadline: of time.monotonic(); a program that has not begun by then is left. KeyboardInterrupt passes through, and no
    compilation is lost.
    """
    progress = progress or Progress()
    names = _name(points, arch, workers, progress)
    tasks: dict[str, tuple[Point, int]] = {}
    waiting: dict[str, list[Point]] = defaultdict(list)
    for point in points:
        for index, name in enumerate(names[point]):
            tasks.setdefault(name, (point, index))
            waiting[name].append(point)
    programs = {name: known for name in tasks if (known := cache.get(name))}
    found: dict[Point, Compilation] = {}

    def take(some: Sequence[Point]) -> None:
        for point in some:
            if point not in found and all(name in programs for name in names[point]):
                found[point] = joined([programs[name] for name in names[point]])
                on_point(point, found[point])

    take(points)
    cached = len(programs)
    place = {point: place for place, point in enumerate(breadth_first(points))}
    order = sorted(tasks.keys() - programs.keys(), key=lambda name: (place[tasks[name][0]], tasks[name][1]))
    progress.begin("compiling", len(order))
    started, busy, cpu, ran = time.monotonic(), 0.0, 0.0, 0
    arguments = {name: (point, arch.target, index) for name in order for point, index in [tasks[name]]}
    for name, outcome in compile_each(
        compiler.compile_point, arguments, workers, cache, timeout=timeout, deadline=deadline
    ):
        programs[name] = outcome
        take(waiting[name])
        progress.step(str(tasks[name][0]))
        busy, cpu, ran = busy + outcome.seconds, cpu + outcome.cpu, ran + 1
    left = Counter(point.family for point in points if point not in found)
    wall = time.monotonic() - started if ran else 0.0
    return CompiledPoints(found=found, left=dict(left), ran=ran, cached=cached, busy=busy, cpu=cpu, wall=wall)


def joined(programs: Sequence[Compilation]) -> Compilation:
    """The compilation of a point from those of its programs, the call with states first, which its costs are read off.

    One that failed stands for the point; a hazard or an assembler's error of any of them counts; all must fit the shared memory.
    """
    if failures := [program for program in programs if program.outcome != "compiled"]:
        return failures[0]
    return replace(
        programs[0],
        shared=max(program.shared for program in programs),
        hazard=next((program.hazard for program in programs if program.hazard), ""),
        misassembled=next((program.misassembled for program in programs if program.misassembled), ""),
    )


def _name(points: Sequence[Point], arch: Architecture, workers: Workers, progress: Progress) -> dict[Point, list[str]]:
    """Cache keys of the programs of every point; those that share one are the same kernel, specialised alike."""
    by_family: dict[Family, list[Point]] = defaultdict(list)
    for point in points:
        by_family[point.family].append(point)
    groups = list(by_family.values())
    progress.begin("recording launches", len(groups))
    names: dict[Point, list[str]] = {}
    for index, result in workers.run(compiler.name_points, [(group, arch.target) for group in groups], PLAN_SECONDS):
        if isinstance(result, Failure):
            raise TableError(f"recording the launches of {groups[index][0].family} did not finish: {result}")
        names.update(zip(groups[index], result, strict=True))
        progress.step(str(groups[index][0].family))
    return names
