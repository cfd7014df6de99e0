"""What runs in the processes that pretend: name and compile one configuration of one kernel, list keys, prove a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from ...verify.compile.process import CompileTarget
from ..compile.binary import Compilation
from ..compile.compiler import compiled
from . import fake_device
from .calls import FlaCall, LaunchChoice, TunedKernel, siblings, sites


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


def tasks(call: FlaCall, arch: str) -> tuple[list[CompileTask], Keys]:
    """What there is to compile for a call, and the keys that the choices will be filed under."""
    return tasks_of(call, arch, sites, siblings)


def tasks_of(
    call: Any, arch: str, sites: Callable[[Any], Iterable[TunedKernel]], siblings: Callable[[Any], Iterable[Any]]
) -> tuple[list[CompileTask], Keys]:
    """The same for calls of any kind, whose launches `sites` notes; `siblings` are those that differ in size alone."""
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


def compile_task(task: CompileTask, target: CompileTarget) -> Compilation:
    """Compile it, as `compiler.compiled` does."""
    return compile_of(task, target, sites)


def compile_of(task: CompileTask, target: CompileTarget, sites: Callable[[Any], Iterable[TunedKernel]]) -> Compilation:
    """The same for calls of any kind."""
    site = next(site for site in sites(task.call) if (site.kernel, site.order) == (task.kernel, task.order))
    return compiled(list(site.launches.values())[task.place], target, task.choice.num_warps)


def prove(call: FlaCall) -> tuple[list[str], list[str]]:
    """Run a call through FLA's own loader and Triton's own tuner, up to the launches: (kernels found, kernels not found).

    The process must have been told of the folder (`fake_device.install`); a kernel is not found if it would be benchmarked.
    """
    from importlib import import_module

    from .calls import launches_noted, make

    cache = import_module("fla.ops.utils.cache")
    original = cache.CachedAutotuner.run
    found: list[str] = []
    missing: list[str] = []

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        if len(self.configs) < 2:
            original(self, *args, **kwargs)
            return
        try:
            original(self, *args, **kwargs)
            found.append(self.kernel_name)
        except fake_device.Benchmarked:
            missing.append(self.kernel_name)

    cache.CachedAutotuner.run = run
    try:
        with launches_noted(lambda launch: None):
            make(call)
    finally:
        cache.CachedAutotuner.run = original
    return found, missing
