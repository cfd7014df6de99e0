"""The programs to compile for a call of anybody's kernels, and the compilation of one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...verify.compile.compilation import Compilation
from ...verify.compile.process import CompileTarget
from ...verify.compile.programs import cache_key, compiled, program_name
from ...verify.targets.tuners import LaunchChoice
from .launches import TunedKernel


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class CompileTask:
    """One kernel of a call, by its order, in one of its configurations, by place. programs: of the launch.

    call: a `FlaCall`, or the call of another target.
    """

    call: Any
    kernel: str
    order: int
    place: int
    choice: LaunchChoice
    name: str
    programs: int


Keys = list[tuple[str, int, list[tuple[Any, ...]]]]
"""(kernel, order, keys) of a call and its siblings."""


def tasks_of(
    call: Any,
    target: CompileTarget,
    sites: Callable[[Any], Iterable[TunedKernel]],
    siblings: Callable[[Any], Iterable[Any]],
) -> tuple[list[CompileTask], Keys]:
    """The programs to compile for a call, and the keys under which the choices will be filed.

    sites: notes the launches of a call. siblings: the calls that differ from one in size alone.
    """
    found, keys = [], {}
    for site in sites(call):
        keys[site.kernel, site.order] = [site.key]
        for place, (choice, launch) in enumerate(site.launches.items()):
            programs = 1
            for size in launch.grid:
                programs *= size
            found.append(
                CompileTask(
                    call=call, kernel=site.kernel, order=site.order, place=place, choice=choice,
                    name=cache_key(program_name(launch), target), programs=programs,
                )
            )  # fmt: skip
    for sibling in siblings(call):
        for site in sites(sibling):
            known = keys.get((site.kernel, site.order))
            if known is not None and site.key not in known:
                known.append(site.key)
    return found, [(kernel, order, some) for (kernel, order), some in keys.items()]


def compile_of(task: CompileTask, target: CompileTarget, sites: Callable[[Any], Iterable[TunedKernel]]) -> Compilation:
    """Compile it, as `compiled` does."""
    site = next(site for site in sites(task.call) if (site.kernel, site.order) == (task.kernel, task.order))
    return compiled(list(site.launches.values())[task.place], target)
