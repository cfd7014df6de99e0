"""The programs to compile for a call of anybody's kernels, and the compilation of one of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...verify.compile.process import CompileTarget
from ...verify.targets.tuners import LaunchChoice
from ..compile.binary import Compilation
from ..compile.compiler import compiled
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
    call: Any, arch: str, sites: Callable[[Any], Iterable[TunedKernel]], siblings: Callable[[Any], Iterable[Any]]
) -> tuple[list[CompileTask], Keys]:
    """The programs to compile for a call, and the keys under which the choices will be filed.

    sites: notes the launches of a call. siblings: the calls that differ from one in size alone.
    """
    import triton

    found, keys = [], {}
    for site in sites(call):
        keys[site.kernel, site.order] = [site.key]
        for place, (choice, launch) in enumerate(site.launches.items()):
            words = (triton.__version__, launch.source().hash(), repr(sorted(launch.options.items())), arch)
            programs = 1
            for size in launch.grid:
                programs *= size
            name = hashlib.sha256("\0".join(words).encode()).hexdigest()
            found.append(
                CompileTask(
                    call=call, kernel=site.kernel, order=site.order, place=place, choice=choice, name=name,
                    programs=programs,
                )
            )  # fmt: skip
    for sibling in siblings(call):
        for site in sites(sibling):
            known = keys.get((site.kernel, site.order))
            if known is not None and site.key not in known:
                known.append(site.key)
    return found, [(kernel, order, some) for (kernel, order), some in keys.items()]


def compile_of(task: CompileTask, target: CompileTarget, sites: Callable[[Any], Iterable[TunedKernel]]) -> Compilation:
    """Compile it, as `compiler.compiled` does."""
    site = next(site for site in sites(task.call) if (site.kernel, site.order) == (task.kernel, task.order))
    return compiled(list(site.launches.values())[task.place], target, task.choice.num_warps)
