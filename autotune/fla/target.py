"""The run: every configuration that FLA offers for its kernels, compiled for a GPU, and one of them chosen for each kernel."""

from __future__ import annotations

import json
import math
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ...results.atomic import replace
from ...results.export_fla import FlaEntry, to_fla
from ...results.strict import TableError, parse
from ...specs.gpus import Gpu
from ..binary import Compilation
from ..cache import Cache
from ..compile_stage import COMPILE_SECONDS, PLAN_SECONDS
from ..cost import occupancy, parameters
from ..pool import Workers
from ..rejection import HEAVY_SPILL, excess, family
from ..toolchain import triton_version
from ..tune import Hooks
from . import pretend, work
from .calls import calls

SCHEMA = 1
KNOWN_BAD = {
    ("sm_100", "chunk_gdn2_bwd_kernel_wy_dqkg_fused"): (
        lambda choice: dict(choice.kwargs).get("BK") == 32 and choice.num_warps != 2,
        "illegal memory access (flash-linear-attention issue 1109)",
    ),
}
"""What must not be launched although FLA offers it: by architecture and kernel, with the source."""


@dataclass(slots=True, kw_only=True)
class Outcome:
    """What a run came to. entries: chosen. rejected: how many configurations left, by reason. left: not compiled in time."""

    path: Path
    entries: list[FlaEntry]
    kernels: int
    ran: int
    cached: int
    rejected: dict[str, int]
    left: int
    failed: list[str] = field(default_factory=list)


def tune_fla(
    gpu: Gpu, rules: Sequence[str], dtypes: Sequence[str], sizes: Sequence[int], *, jobs: int, out: Path, cache: Path,
    budget: float | None, hooks: Hooks,
) -> Outcome:  # fmt: skip
    """Compile, reject, choose and write `fla/<gpu>.json`. Raises TableError where FLA is not there, or not for this GPU."""
    deadline = math.inf if budget is None else time.monotonic() + budget
    _require(gpu)
    store, arch = Cache(folder=cache, warn=hooks.warn), gpu.arch.name
    some = calls(rules, dtypes, sizes)
    with Workers(jobs, partial(pretend.become, facts(gpu), "", _site())) as workers:
        hooks.progress.begin("recording launches", len(some))
        tasks: list[work.Task] = []
        keys: dict[tuple[Any, str, int], list[tuple[Any, ...]]] = {}
        for index, result in workers.run(work.tasks, [(call, arch) for call in some], PLAN_SECONDS):
            if isinstance(result, str):
                raise TableError(f"recording the launches of {some[index]} ended in a {result}")
            tasks += result[0]
            keys |= {(some[index], kernel, order): listed for kernel, order, listed in result[1]}
            hooks.progress.step(str(some[index]))
        hooks.say(f"FLA {_version()}: {len(keys)} kernels of {len(some)} calls, {len(tasks)} configurations")
        found: dict[str, Compilation] = {}
        waiting: dict[str, work.Task] = {}
        # Every kernel's first configurations before any kernel's last, in case a budget ends.
        for task in sorted(tasks, key=lambda task: (task.place, task)):
            known = found.get(task.name) or store.get(task.name)
            if known:
                found[task.name] = known
            else:
                waiting.setdefault(task.name, task)
        cached, order = len(found), list(waiting.values())
        hooks.progress.begin("compiling", len(order))
        for index, result in workers.run(
            work.compile_task, [(task, arch) for task in order], COMPILE_SECONDS, deadline
        ):
            if isinstance(result, str):
                result = Compilation(outcome="timeout" if result == "timeout" else "crash", seconds=0.0)
            store.put(order[index].name, result)
            found[order[index].name] = result
            hooks.progress.step(f"{order[index].call} {order[index].kernel}")
    outcome = _choose(gpu, tasks, keys, found, out / "fla" / f"{gpu.slug}.json")
    outcome.ran, outcome.cached = len(found) - cached, cached
    replace(outcome.path, _text(gpu, outcome))
    return outcome


def facts(gpu: Gpu) -> pretend.Facts:
    return gpu.arch.name, gpu.aliases[0] if gpu.aliases else gpu.slug, gpu.sm_count, gpu.arch.shared_per_block


def export(out: Path, gpu: Gpu) -> dict[str, str]:
    """FLA's files by name, from what a run wrote. Raises TableError where there is none, or what is there is damaged."""
    path = out / "fla" / f"{gpu.slug}.json"
    if not path.is_file():
        raise TableError(
            f"FLA's files hold configurations of FLA's own kernels, and {path} is not there: run `autotune --target fla "
            f"--gpu {gpu.slug}` first"
        )
    document = parse(path.read_text(encoding="utf-8"), str(path))
    try:
        if document["schema"] != SCHEMA or document["gpu"] != gpu.slug:
            raise ValueError("another schema or GPU")
        entries = [
            FlaEntry(
                kernel=row["kernel"], autotune_key=tuple(row["key"]), kwargs=_numbers(row["kwargs"]),
                num_warps=int(row["num_warps"]), num_stages=int(row["num_stages"]), num_ctas=int(row["num_ctas"]),
            )
            for row in document["entries"]
        ]  # fmt: skip
        return to_fla(entries, str(document["triton"]))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(f"{path}: not what a run wrote ({error})") from None


def prove(
    gpu: Gpu, folder: Path, rules: Sequence[str], dtypes: Sequence[str], sizes: Sequence[int]
) -> dict[str, list[str]]:
    """What FLA, in its strict mode, finds in a folder and what it does not, for the representative calls."""
    _require(gpu)
    some = calls(rules, dtypes, sizes)
    found: dict[str, list[str]] = {"found": [], "missing": []}
    with Workers(1, partial(pretend.become, facts(gpu), str(folder.resolve()), _site())) as workers:
        for index, result in workers.run(work.prove, [(call,) for call in some], PLAN_SECONDS):
            if isinstance(result, str):
                raise TableError(f"{some[index]}: trying FLA's loader ended in a {result}")
            found["found"] += result[0]
            found["missing"] += [f"{some[index]}: {kernel}" for kernel in result[1]]
    return found


def _choose(
    gpu: Gpu, tasks: Sequence[work.Task], keys: Mapping[tuple[Any, str, int], list[tuple[Any, ...]]],
    found: Mapping[str, Compilation], path: Path,
) -> Outcome:  # fmt: skip
    groups: dict[tuple[Any, str, int], list[work.Task]] = defaultdict(list)
    for task in tasks:
        groups[task.call, task.kernel, task.order].append(task)
    outcome = Outcome(path=path, entries=[], kernels=len(groups), ran=0, cached=0, rejected=defaultdict(int), left=0)
    chosen: dict[tuple[str, str], FlaEntry] = {}
    for place, group in sorted(groups.items()):
        left = _sift(gpu, group, found, outcome)
        if not left:
            outcome.failed.append(f"{place[0]}: {place[1]}")
            continue
        best = min(left, key=lambda task: (_score(task, found[task.name], gpu), found[task.name].registers, task.place))
        for key in keys[place]:
            entry = FlaEntry(
                kernel=best.kernel, autotune_key=key, kwargs=dict(best.choice.kwargs), num_warps=best.choice.num_warps,
                num_stages=best.choice.num_stages, num_ctas=best.choice.num_ctas,
            )  # fmt: skip
            # Some keys say less than what is launched: the first choice stands, as it does in FLA.
            chosen.setdefault((entry.kernel, json.dumps(key)), entry)
    outcome.entries = [chosen[place] for place in sorted(chosen)]
    outcome.rejected = dict(sorted(outcome.rejected.items()))
    return outcome


def _sift(gpu: Gpu, group: Sequence[work.Task], found: Mapping[str, Compilation], outcome: Outcome) -> list[work.Task]:
    """What is left of a kernel's configurations: compiled, not known to be bad, fitting, and not spilling if others do not."""
    left: list[work.Task] = []
    codes: set[str] = set()
    for task in group:
        binary = found.get(task.name)
        bad = KNOWN_BAD.get((gpu.arch.name, task.kernel))
        if binary is None:
            outcome.left += 1
        elif bad and bad[0](task.choice):
            outcome.rejected["known bad"] += 1
        elif binary.outcome != "compiled":
            outcome.rejected[binary.outcome] += 1
        elif excess(binary, gpu.arch):
            outcome.rejected["resources"] += 1
        elif binary.code in codes:
            outcome.rejected["duplicate"] += 1
        else:
            codes.add(binary.code)
            left.append(task)
    least = min((found[task.name].stack for task in left), default=0)
    light = [task for task in left if found[task.name].stack < max(HEAVY_SPILL, least + 1)]
    outcome.rejected["spill"] += len(left) - len(light)
    return light


def _score(task: work.Task, binary: Compilation, gpu: Gpu) -> float:
    """Relative time: the same work, split over the programs of the launch, in waves over the multiprocessors.

    A warp uses one of four tensor cores; slower instructions take longer; stack traffic is work besides. It ranks by what the
    binary shows, and knows nothing of memory or latency.
    """
    resident = occupancy(binary, gpu.arch)
    if not resident:
        return math.inf
    sharing = min(resident, math.ceil(task.programs / gpu.sm_count))
    waves = math.ceil(task.programs / (gpu.sm_count * sharing))
    busy = min(1.0, sharing * task.choice.num_warps / 4)
    products, name = parameters()["products"], family(binary, gpu.arch)
    slower = name == "mma" and gpu.arch.families[0] != "mma"
    rate = products["mma_where_slower" if slower else name] if name else 1.0
    return waves * sharing / task.programs / busy / rate * (1 + binary.stack / 512)


def _text(gpu: Gpu, outcome: Outcome) -> str:
    """The document: one entry a line."""
    head = {"schema": SCHEMA, "gpu": gpu.slug, "fla": _version(), "triton": triton_version(),
            "how": "compiled and ranked by resources, not timed"}  # fmt: skip
    rows = [
        json.dumps({
            "kernel": entry.kernel, "key": list(entry.autotune_key), "kwargs": dict(entry.kwargs),
            "num_warps": entry.num_warps, "num_stages": entry.num_stages, "num_ctas": entry.num_ctas,
        })
        for entry in outcome.entries
    ]  # fmt: skip
    lines = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    return "{\n" + "\n".join(lines) + '\n"entries": [\n' + ",\n".join(rows) + "\n]\n}\n"


def _numbers(kwargs: Mapping[str, Any]) -> dict[str, int]:
    if any(type(value) is not int for value in kwargs.values()):
        raise ValueError(f"block sizes {kwargs}")
    return dict(kwargs)


def _require(gpu: Gpu) -> None:
    if gpu.arch.backend != "cuda":
        raise TableError(f"--target fla: {gpu.slug} is no NVIDIA GPU, and FLA's offers for others are not known here")
    if pretend.where() is None:
        raise TableError("--target fla: flash-linear-attention is not installed; it comes with deltaproof[peers]")


def _site() -> str:
    """The folder that holds FLA, for processes that are started anew."""
    place = pretend.where()
    return str(place.parent) if place else ""


def _version() -> str:
    for name in ("fla-core", "flash-linear-attention"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
