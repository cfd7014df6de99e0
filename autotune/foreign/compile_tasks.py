"""The compile stage of somebody else's kernels: every program once, over all runs, calls and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...specs.gpus import Gpu
from ...verify.compile.compilation import Cache, Compilation
from ...verify.compile.process import CompileTarget
from ...verify.compile.programs import compile_each
from ...verify.process.pool import Workers
from ..tune import Hooks
from .compile import CompileTask


def compile_tasks(
    compile_one: Callable[[CompileTask, CompileTarget], Compilation], tasks: Sequence[CompileTask], gpu: Gpu,
    workers: Workers, store: Cache, deadline: float, hooks: Hooks,
) -> tuple[dict[str, Compilation], int]:  # fmt: skip
    """(compilations by the name of their task, how many were known before). compile_one: runs in the workers."""
    found: dict[str, Compilation] = {}
    waiting: dict[str, CompileTask] = {}
    # Every kernel's first configurations before any kernel's last, in case a budget ends.
    for task in sorted(tasks, key=lambda task: (task.place, task.call, task.kernel, task.order)):
        known = found.get(task.name) or store.get(task.name)
        if known:
            found[task.name] = known
        else:
            waiting.setdefault(task.name, task)
    cached = len(found)
    hooks.progress.begin("compiling", len(waiting))
    arguments = {name: (task, gpu.arch.target) for name, task in waiting.items()}
    for name, outcome in compile_each(compile_one, arguments, workers, store, deadline=deadline):
        found[name] = outcome
        hooks.progress.step(f"{waiting[name].call} {waiting[name].kernel}")
    return found, cached
