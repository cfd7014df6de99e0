"""The launches of a forward pass of the installed release, compiled for a GPU that need not be there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from ....results.schema.strict import TableError
from ....specs.gpus import Gpu
from ....verify.compile.compilation import Cache, Compilation
from ....verify.compile.fake_device import facts
from ....verify.compile.process import COMPILE_SECONDS, CompileTarget
from ....verify.compile.programs import cache_key, compile_each, compiled, program_name
from ....verify.process.pool import Failure, Workers
from ....verify.process.progress import Progress
from ....verify.targets.tuners import launches_noted
from .. import installed
from ..calls import OPS
from .work import DIM, WORK

CONFIGURATIONS = 3
"""The most of each kernel, evenly drawn from those that the release offers."""
LEFT_OUT = ("l2norm_fwd_kernel",)


@dataclass(frozen=True, slots=True, kw_only=True)
class CompiledKernel:
    """One kernel of the call in one configuration. sizes: its constants by name, such as BT and BV."""

    kernel: str
    sizes: Mapping[str, int]
    num_stages: int
    binary: Compilation


def compile_call(gpu: Gpu, site: str, cache: Cache, jobs: int, progress: Progress) -> list[CompiledKernel]:
    """Every kernel of the call, in some of its configurations. site: the folder that holds `fla`. Raises TableError."""
    with Workers(jobs, partial(installed.pretend, facts(gpu), "", site)) as workers:
        ((_, listed),) = workers.run(list_launches, [()], COMPILE_SECONDS)
        if isinstance(listed, Failure):
            raise TableError(f"bench-model: recording the launches of the call did not finish: {listed.outcome}")
        if unknown := sorted({kernel for kernel, *_ in listed} - set(WORK)):
            raise TableError(f"bench-model: this release launches {', '.join(unknown)}, whose work is not known here")
        progress.begin("compiling", len(listed))
        keys = [cache_key(program, gpu.arch.target) for *_, program in listed]
        found = {key: known for key in keys if (known := cache.get(key))}
        for kernel in (kernel for key, (kernel, *_) in zip(keys, listed, strict=True) if key in found):
            progress.step(kernel)
        left = {key: (place, gpu.arch.target) for place, key in enumerate(keys) if key not in found}
        for key, outcome in compile_each(compile_one, left, workers, cache):
            kernel = listed[left[key][0]][0]
            if not outcome.final:
                raise TableError(f"bench-model: compiling {kernel} did not finish: {outcome.outcome}")
            found[key] = outcome
            progress.step(kernel)
    return [
        CompiledKernel(kernel=kernel, sizes=sizes, num_stages=stages, binary=found[key])
        for key, (kernel, sizes, stages, _) in zip(keys, listed, strict=True)
        if found[key].outcome == "compiled"
    ]


def list_launches() -> list[tuple[str, dict[str, int], int, str]]:
    """(kernel, constants, depth, name of the program) of each program to compile. For a process that pretends."""
    return [
        (launch.name, _constants(launch), launch.options.get("num_stages", 1), program_name(launch))
        for launch in _launches()
    ]


def compile_one(place: int, target: CompileTarget) -> Compilation:
    """Compile one of `list_launches`, in a process that pretends."""
    return compiled(_launches()[place], target)


def _constants(launch: Any) -> dict[str, int]:
    constant = {parameter.name for parameter in launch.kernel.params if parameter.is_constexpr}
    return {name: int(value) for name, value in launch.arguments.items() if name in constant and isinstance(value, int)}


def _launches() -> list[Any]:
    """The launches of one forward pass, of an autotuned kernel some configurations."""
    if _recorded:
        return _recorded
    from importlib import import_module

    import torch

    cache = import_module("fla.ops.utils.cache")
    original = cache.CachedAutotuner.run

    def run(self: Any, *args: Any, **kwargs: Any) -> None:
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        offered = self.prune_configs(kwargs) if len(self.configs) > 1 else list(self.configs)
        for config in offered[:: max(1, len(offered) // CONFIGURATIONS)][:CONFIGURATIONS]:
            self.fn.run(*args, **kwargs, **config.all_kwargs())

    def tensor(*channels: int, kind: torch.dtype = torch.bfloat16) -> torch.Tensor:
        return torch.empty(1, 8192, 16, *channels, device="meta", dtype=kind)

    module, op = OPS["gdn"]
    cache.CachedAutotuner.run = run
    try:
        with launches_noted(_recorded.append), torch.no_grad():
            getattr(import_module(module), op)(
                q=tensor(DIM), k=tensor(DIM), v=tensor(DIM), g=tensor(kind=torch.float32), beta=tensor(),
                cu_seqlens=torch.tensor([0, 4096, 8192]),
            )  # fmt: skip
    finally:
        cache.CachedAutotuner.run = original
    _recorded[:] = [launch for launch in _recorded if launch.name not in LEFT_OUT]
    return _recorded


_recorded: list[Any] = []
