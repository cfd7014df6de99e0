"""The compile stage of somebody else's kernels: every program once, over all runs, calls and targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ...specs.gpus import Gpu
from ...verify.compile.process import COMPILE_SECONDS, CompileTarget
from ...verify.process.pool import Failure, Workers
from ..compile.binary import Compilation
from ..compile.cache import Cache
from ..compile.stage import failed
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
    cached, order = len(found), list(waiting.values())
    hooks.progress.begin("compiling", len(order))
    for index, result in workers.run(
        compile_one, [(task, gpu.arch.target) for task in order], COMPILE_SECONDS, deadline
    ):
        if isinstance(result, Failure):
            result = failed(result, COMPILE_SECONDS)
        store.put(order[index].name, result)
        found[order[index].name] = result
        hooks.progress.step(f"{order[index].call} {order[index].kernel}")
    return found, cached
