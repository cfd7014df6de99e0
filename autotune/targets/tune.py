"""The run: every configuration that a target's kernels offer, compiled for a GPU, and one chosen for each that passes."""

from __future__ import annotations

import math
import shlex
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from ...results.files.atomic import replace
from ...results.files.one_line import folded, told
from ...results.schema.strict import TableError
from ...results.schema.target_table import Offer, TargetEntry, TargetTable, dumps, file_name, loads
from ...results.schema.text_files import read_text
from ...specs.gpus import Gpu
from ...specs.problem import DType
from ...verify.compile import fake_device
from ...verify.compile.compilation import Cache, Compilation
from ...verify.compile.fake_device import facts
from ...verify.compile.process import CompileTarget
from ...verify.compile.programs import triton_version
from ...verify.process.pool import Failure, Workers, one_thread
from ...verify.ptx.architectures import architecture
from ...verify.targets.calls import TargetCall, calls, function_of
from ...verify.targets.tuners import LaunchChoice
from ...verify.verdicts.plural import counted
from ..compile.prune import too_large
from ..compile.stage import PLAN_SECONDS
from ..foreign.cache_keys import CacheKeyGroup, Place, cache_key_groups, score
from ..foreign.compile import CompileTask, compile_of, tasks_of
from ..foreign.compile_tasks import compile_tasks
from ..foreign.questions import CallAnswer, CallQuestion, once
from ..foreign.select import Refusal, SelectionOutcome, select
from ..gates.asking import answers
from ..gates.running import SECONDS, can_run
from ..records.ledger import default_out
from ..tune import Hooks
from .call import siblings
from .judge import judge, lost
from .tuners import sites

UNSEEN = "nothing here runs programs of this architecture"


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetOutcome:
    """The results of a run. kernels: autotuned ones, each under the keys of its calls. left: configurations that a budget left.

    refused: choices that failed the gate. without: kernels that have no configuration.
    """

    path: Path
    table: TargetTable
    kernels: int
    ran: int
    cached: int
    left: int
    refused: Sequence[Refusal]
    without: Sequence[str]
    rejected: Mapping[str, int] = field(default_factory=dict)

    @property
    def broken(self) -> bool:
        """Whether a kernel has no configuration, and more time would not give it one."""
        return bool(self.without and not self.left) or any(one.everything for one in self.refused)


def tune_target(
    target: str, gpu: Gpu, rules: Sequence[str], dtypes: Sequence[DType], sizes: Sequence[int], *, jobs: int, out: Path,
    cache: Path, budget: float | None, hooks: Hooks,
) -> TargetOutcome:  # fmt: skip
    """Compile, reject, choose, judge and write `targets/<gpu>/<target>.json` under `out`.

    Raises TableError for a target that is not understood, launches nothing that is autotuned, or is not for this GPU.
    """
    if gpu.arch.backend != "cuda":
        raise TableError(f"--target {target}: {gpu.slug} is {gpu.arch.name}; accepted: NVIDIA's GPUs")
    deadline = math.inf if budget is None else time.monotonic() + budget
    store = Cache(folder=cache, warn=hooks.warn)
    with Workers(jobs, partial(fake_device.install, facts(gpu))) as workers:
        some, package = _one(workers, described, (target, tuple(rules), tuple(dtypes), tuple(sizes)))
        hooks.progress.begin("recording launches", len(some))
        tasks: list[CompileTask] = []
        keys: dict[Place, list[tuple[Any, ...]]] = {}
        sources: dict[str, str] = {}
        unnoted: dict[TargetCall, str] = {}
        for index, result in workers.run(recorded, [(call, gpu.arch.target) for call in some], PLAN_SECONDS):
            if isinstance(result, Failure):
                raise TableError(f"recording the launches of {some[index]} did not finish: {result}")
            if isinstance(result, str):
                unnoted[some[index]] = result
                continue
            tasks += result[0]
            keys |= {(some[index], kernel, order): listed for kernel, order, listed in result[1]}
            sources |= result[2]
            hooks.progress.step(str(some[index]))
        some = [call for call in some if call not in unnoted]
        left_out = [f"{call}: {reason}" for call, reason in sorted(unnoted.items())]
        if not some:
            raise TableError(left_out[0])
        if not tasks:
            raise TableError(f"{target} launches no kernel with @triton.autotune and more than one configuration")
        hooks.say(f"{gpu.slug}: compiling and ranking {target}; nothing is timed")
        for line in left_out:
            hooks.warn(f"left out: {line}")
        hooks.say(f"{target}: {counted(len(sources), 'autotuned kernel')} in {counted(len(some), 'call')}, "
                  f"{counted(len(tasks), 'configuration')}")  # fmt: skip
        found, cached = compile_tasks(partial(compile_of, sites=sites), tasks, gpu, workers, store, deadline, hooks)
    groups, rejected, left = cache_key_groups(gpu, tasks, keys, found)
    selection = _selected(groups, tasks, gpu, jobs, hooks)
    path = out / "targets" / gpu.slug / f"{file_name(target)}.json"
    entries = list(_entries(groups, selection, tasks, found, gpu, sources))
    old, before = _kept(path, entries, sources, target)
    table = TargetTable(
        target=target, package=package, gpu=gpu.slug, triton=triton_version(), entries=(*old, *entries),
        calls=tuple(sorted({*before, *(call.words for call in some)})),
    )  # fmt: skip
    if table.entries:
        replace(path, dumps(table))
    return TargetOutcome(
        path=path, table=table, kernels=len(groups), ran=len(found) - cached, cached=cached, left=left,
        rejected={reason: count for reason, count in sorted(rejected.items()) if count}, refused=selection.refused,
        without=[group.kernel for number, group in enumerate(groups) if number not in selection.chosen],
    )  # fmt: skip


def read_target_table(folder: Path, gpu: Gpu, target: str) -> TargetTable:
    """The table that a run wrote. Raises TableError where there is none, or it is damaged."""
    path = folder / "targets" / gpu.slug / f"{file_name(target)}.json"
    if not path.is_file():
        own = [] if folder == default_out() else ["--out", str(folder)]
        command = shlex.join(["autotune", "--gpu", gpu.slug, "--target", target, *own])
        raise TableError(f"no table {path}; run `{command}` first")
    return loads(read_text(path), str(path))


def described(
    target: str, rules: tuple[str, ...], dtypes: tuple[DType, ...], sizes: tuple[int, ...]
) -> tuple[list[TargetCall], str] | str:
    """(calls, package and version) of a target, or why it is none: a process of its own imports it."""
    from ...verify.targets.function import package_of

    try:
        return calls(target, rules, dtypes, sizes), package_of(function_of(target)) or ""
    except ValueError as error:
        return folded(error)


def recorded(call: TargetCall, target: CompileTarget) -> tuple[list[CompileTask], Any, dict[str, str]] | str:
    """The programs to compile, keys, and digests of the kernels' sources; or why the launches cannot be noted."""
    try:
        tasks, keys = tasks_of(call, target, sites, siblings)
        sources = {
            site.kernel: next(iter(site.launches.values())).kernel.cache_key for site in sites(call)
        }  # fmt: skip
    except (Exception, SystemExit) as error:  # any error of somebody else's function
        return f"its launches cannot be noted: {told(error)}"
    for kernel, _, some in keys:
        for value in (value for key in some for value in key):
            if not (value is None or type(value) in (bool, int, float, str)):
                return f"{kernel} is autotuned by {value!r}, which no table can hold"
    return tasks, keys, sources


def _one(workers: Workers, task: Any, arguments: tuple[Any, ...]) -> tuple[list[TargetCall], str]:
    """The result of a single task. Raises TableError."""
    ((_, result),) = workers.run(task, [arguments], PLAN_SECONDS)
    if isinstance(result, Failure):
        raise TableError(f"importing the target did not finish: {result}")
    if isinstance(result, str):
        raise TableError(result)
    return result


def _selected(
    groups: Sequence[CacheKeyGroup], tasks: Sequence[CompileTask], gpu: Gpu, jobs: int, hooks: Hooks
) -> SelectionOutcome:
    if not can_run(gpu.arch.name):
        return select(groups, tasks, lambda some: {q: CallAnswer(question=q, held=None, detail=UNSEEN) for q in some})
    with Workers(jobs, one_thread) as workers:

        def ask(some: Sequence[CallQuestion]) -> Iterable[CallAnswer]:
            return answers(partial(judge, arch=architecture(gpu.arch.name)), some, workers, lost, SECONDS)

        return select(groups, tasks, once(ask, "running as compiled", hooks.progress))


def _entries(
    groups: Sequence[CacheKeyGroup], selection: SelectionOutcome, tasks: Sequence[CompileTask], found: Mapping[str, Compilation],
    gpu: Gpu, sources: Mapping[str, str],
) -> list[TargetEntry]:  # fmt: skip
    offered: dict[Place, list[CompileTask]] = {}
    for task in tasks:
        offered.setdefault((task.call, task.kernel, task.order), []).append(task)
    entries = []
    for number, task in selection.chosen.items():
        group = groups[number]
        answers = [selection.answers[call] for call in dict.fromkeys(call for call, _, _ in group.places)]
        refused = {one.choice for one in selection.refused if one.group == number}
        states = {one.choice: "ranked" for one in group.ranked} | dict.fromkeys(refused, "refused")
        states[task.choice] = "chosen"
        entries.append(
            TargetEntry(
                kernel=group.kernel, source=sources[group.kernel], keys=group.keys, config=as_config(task.choice),
                gate="compiled" if all(answer.held for answer in answers) else "none",
                detail="; ".join(dict.fromkeys(answer.detail for answer in answers))[:2000],
                offered=tuple(_offer(one, found.get(one.name), gpu, states) for one in offered[group.places[0]]),
            )
        )  # fmt: skip
    return entries


def _offer(
    task: CompileTask, binary: Compilation | None, gpu: Gpu, states: Mapping[LaunchChoice, str]
) -> Offer:  # fmt: skip
    known = float(f"{score(task, binary, gpu):.4g}") if binary and task.choice in states else None
    return Offer(config=as_config(task.choice), outcome=states.get(task.choice) or _left(binary, gpu), score=known)


def _left(binary: Compilation | None, gpu: Gpu) -> str:
    """Why a configuration was not ranked."""
    if binary is None:
        return "not compiled"
    if binary.outcome != "compiled":
        return binary.outcome
    return "resources" if too_large(binary, gpu.arch) else "duplicate or spill"


def as_config(choice: LaunchChoice) -> dict[str, Any]:
    """The arguments of `triton.Config`."""
    config: dict[str, Any] = {
        "kwargs": dict(choice.kwargs), "num_warps": choice.num_warps, "num_stages": choice.num_stages,
        "num_ctas": choice.num_ctas,
    }  # fmt: skip
    return config if choice.maxnreg is None else config | {"maxnreg": choice.maxnreg}


def _kept(
    path: Path, entries: Sequence[TargetEntry], sources: Mapping[str, str], target: str
) -> tuple[list[TargetEntry], tuple[str, ...]]:
    """Entries of an earlier run that nothing contradicts, for other keys and of sources that stand, and its calls."""
    if not path.is_file():
        return [], ()
    known = loads(read_text(path), str(path))
    if known.target != target or known.triton != triton_version():
        return [], ()
    new = {(entry.kernel, key) for entry in entries for key in entry.keys}
    kept = [
        entry for entry in known.entries
        if sources.get(entry.kernel, entry.source) == entry.source
        and not any((entry.kernel, key) in new for key in entry.keys)
    ]  # fmt: skip
    return kept, known.calls if kept else ()
