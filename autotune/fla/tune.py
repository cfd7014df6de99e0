"""The run: every configuration that FLA offers for its kernels, compiled for a GPU, and one chosen for each that passes."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from ...results.export.fla import FlaEntry, to_fla
from ...results.files.atomic import replace
from ...results.files.packaged import packaged
from ...results.schema.strict import TableError, parse
from ...specs.gpus import Gpu
from ...verify.compile.compilation import Cache
from ...verify.compile.fake_device import facts
from ...verify.compile.programs import triton_version
from ...verify.process.pool import Failure, Workers
from ...verify.verdicts.plural import counted
from ..compile.stage import PLAN_SECONDS
from ..foreign.cache_keys import CacheKeyGroup, Place, cache_key_groups
from ..foreign.compile import CompileTask, compile_of, tasks_of
from ..foreign.compile_tasks import compile_tasks
from ..foreign.questions import CallAnswer, CallQuestion, once
from ..foreign.select import Refusal, SelectionOutcome, select
from ..gates.asking import answers
from ..records.ledger import default_out
from ..tune import Hooks
from . import gate, installed
from .calls import OPS, calls, siblings, sites
from .gate_cache import AnswerCache
from .prove import prove_call

SCHEMA = 2
GATES = "interpreter: passed; device: owed"
"""The gates of every entry."""


@dataclass(slots=True, kw_only=True)
class FlaOutcome:
    """The results of a run.

    entries: chosen; evidence: of each, names of the answers of the gate. kernels: sites in calls, those of `failed` without a
    configuration. rejected: how many configurations left after compiling, by reason. left: not compiled in time.
    checked: how many block sizes the gate judged; refused: those that it did not let pass.
    """

    path: Path
    kernels: int
    ran: int
    cached: int
    rejected: dict[str, int]
    left: int
    entries: list[FlaEntry] = field(default_factory=list)
    evidence: list[tuple[str, ...]] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    checked: int = 0
    owed: int = 0
    refused: list[Refusal] = field(default_factory=list)

    @property
    def broken(self) -> bool:
        """Whether a kernel has no configuration, and more time would not give it one."""
        return bool(self.failed and not self.left) or any(one.everything for one in self.refused)


def tune_fla(
    gpu: Gpu, rules: Sequence[str], dtypes: Sequence[str], sizes: Sequence[int], *, jobs: int, out: Path, cache: Path,
    budget: float | None, hooks: Hooks,
) -> FlaOutcome:  # fmt: skip
    """Compile, reject, choose and write `fla/<gpu>.json`. Raises TableError where FLA is not there, or not for this GPU."""
    deadline = math.inf if budget is None else time.monotonic() + budget
    _require(gpu, rules)
    store = Cache(folder=cache, warn=hooks.warn)
    some = calls(rules, dtypes, sizes)
    with Workers(jobs, partial(installed.pretend, facts(gpu), "", _site())) as workers:
        hooks.progress.begin("recording launches", len(some))
        tasks: list[CompileTask] = []
        keys: dict[Place, list[tuple[Any, ...]]] = {}
        record = partial(tasks_of, sites=sites, siblings=siblings)
        for index, result in workers.run(record, [(call, gpu.arch.target) for call in some], PLAN_SECONDS):
            if isinstance(result, Failure):
                raise TableError(f"recording the launches of {some[index]} did not finish: {result}")
            tasks += result[0]
            keys |= {(some[index], kernel, order): listed for kernel, order, listed in result[1]}
            hooks.progress.step(str(some[index]))
        hooks.say(f"FLA {_version()}: {counted(len(keys), 'kernel')} of {counted(len(some), 'call')}, "
                  f"{counted(len(tasks), 'configuration')}")  # fmt: skip
        found, cached = compile_tasks(partial(compile_of, sites=sites), tasks, gpu, workers, store, deadline, hooks)
    made, rejected, left = cache_key_groups(gpu, tasks, keys, found)
    package = installed.where()
    assert package is not None
    verdicts = AnswerCache(folder=cache.parent / "fla-gate", facts=facts(gpu), package=package, warn=hooks.warn)
    with gate.gate_workers(jobs, facts(gpu), _site()) as workers:

        def ask(some: Sequence[CallQuestion]) -> Iterator[CallAnswer]:
            return answers(gate.judge, some, workers, gate.lost, gate.SECONDS)

        judge = once(ask, "verifying", hooks.progress, verdicts)
        # Of a configuration, the interpreter sees the block sizes.
        selection = select(made, tasks, judge, lambda choice: choice.kwargs)
    outcome = FlaOutcome(
        path=out / "fla" / f"{gpu.slug}.json", kernels=len(keys), ran=len(found) - cached, cached=cached,
        rejected={reason: count for reason, count in sorted(rejected.items()) if count}, left=left,
        checked=len(selection.tried), owed=len(selection.chosen),
        refused=[one for one in selection.refused if (one.group, one.choice) in selection.tried],
    )  # fmt: skip
    _fill(outcome, made, selection, verdicts)
    replace(outcome.path, _text(gpu, outcome))
    return outcome


def export(out: Path | None, gpu: Gpu) -> dict[str, str]:
    """FLA's files by name, from the file that a run wrote to `out`, by default where runs write, else from the one that ships.

    Raises TableError where there is none, or it is damaged.
    """
    path = (out or default_out()) / "fla" / f"{gpu.slug}.json"
    if out is None and not path.is_file():
        path = packaged("fla") / path.name
    return _files(path, gpu)


def publish(out: Path | None, gpu: Gpu, results: Path) -> str:
    """Move the file that a run wrote to `out` into the folder `results` of a checkout; one line that says so.

    Raises TableError where there is none, or it is damaged; OSError.
    """
    path, target = ((folder / "fla" / f"{gpu.slug}.json") for folder in (out or default_out(), results))
    files = _files(path, gpu)
    replace(target, path.read_bytes())
    path.unlink()
    return f"published: configurations of {counted(len(files), 'kernel')} in {target}"


def _files(path: Traversable, gpu: Gpu) -> dict[str, str]:
    if not path.is_file():
        raise TableError(
            f"FLA's files hold configurations of FLA's own kernels, and {path} is not there: run `autotune --target fla "
            f"--gpu {gpu.slug}` first"
        )
    try:
        document = parse(path.read_text(encoding="utf-8"), str(path))
        if document["schema"] != SCHEMA or document["gpu"] != gpu.slug:
            raise ValueError(f"another schema or GPU; run `autotune --target fla --gpu {gpu.slug}` again")
        entries = [
            FlaEntry(
                kernel=row["kernel"], autotune_key=tuple(row["key"]), kwargs=_numbers(row["kwargs"]),
                num_warps=int(row["num_warps"]), num_stages=int(row["num_stages"]), num_ctas=int(row["num_ctas"]),
                checked=_passed(row),
            )
            for row in document["entries"]
        ]  # fmt: skip
        return to_fla(entries, str(document["triton"]))
    except TableError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise TableError(f"{path}: not a file that `autotune --target fla` wrote ({error})") from None


def prove(
    gpu: Gpu, folder: Path, rules: Sequence[str], dtypes: Sequence[str], sizes: Sequence[int]
) -> dict[str, list[str]]:
    """The kernels that FLA, in its strict mode, finds in a folder and those that it misses, for the representative calls."""
    _require(gpu, rules)
    some = calls(rules, dtypes, sizes)
    found: dict[str, list[str]] = {"found": [], "missing": []}
    with Workers(1, partial(installed.pretend, facts(gpu), str(folder.resolve()), _site())) as workers:
        for index, result in workers.run(prove_call, [(call,) for call in some], PLAN_SECONDS):
            if isinstance(result, Failure):
                raise TableError(f"{some[index]}: trying FLA's loader did not finish: {result}")
            found["found"] += result[0]
            found["missing"] += [f"{some[index]}: {kernel}" for kernel in result[1]]
    return found


def _fill(
    outcome: FlaOutcome, made: Sequence[CacheKeyGroup], selection: SelectionOutcome, verdicts: AnswerCache
) -> None:
    """The entries of the choices, in order, and the kernels without one."""
    rows: dict[tuple[str, str], tuple[FlaEntry, tuple[str, ...]]] = {}
    for number, slot in enumerate(made):
        task = selection.chosen.get(number)
        if task is None:
            outcome.failed += [f"{call}: {kernel}" for call, kernel, _ in slot.places]
            continue
        some = [selection.answers[call] for call in sorted({call for call, _, _ in slot.places})]
        evidence = tuple(verdicts.key(answer.question)[:16] for answer in some)
        for key in slot.keys:
            entry = FlaEntry(
                kernel=task.kernel, autotune_key=key, kwargs=dict(task.choice.kwargs), num_warps=task.choice.num_warps,
                num_stages=task.choice.num_stages, num_ctas=task.choice.num_ctas, checked=GATES,
            )  # fmt: skip
            rows[entry.kernel, json.dumps(key)] = entry, evidence
    outcome.entries = [rows[place][0] for place in sorted(rows)]
    outcome.evidence = [rows[place][1] for place in sorted(rows)]


def _text(gpu: Gpu, outcome: FlaOutcome) -> str:
    """The document: one entry a line."""
    head = {"schema": SCHEMA, "gpu": gpu.slug, "fla": _version(), "triton": triton_version(),
            "how": "compiled, ranked by resources, and not timed; block sizes judged in the interpreter",
            "refused": [refusal(one) for one in outcome.refused]}  # fmt: skip
    rows = [
        json.dumps({
            "kernel": entry.kernel, "key": list(entry.autotune_key), "kwargs": dict(entry.kwargs),
            "num_warps": entry.num_warps, "num_stages": entry.num_stages, "num_ctas": entry.num_ctas,
            "gates": entry.checked, "evidence": list(evidence),
        })
        for entry, evidence in zip(outcome.entries, outcome.evidence, strict=True)
    ]  # fmt: skip
    lines = [f"{json.dumps(name)}: {json.dumps(value)}," for name, value in head.items()]
    return "{\n" + "\n".join(lines) + '\n"entries": [\n' + ",\n".join(rows) + "\n]\n}\n"


def refusal(one: Refusal) -> dict[str, Any]:
    """A refusal as JSON values."""
    reason = one.detail if one.instead is None else f"{one.detail}; right with {dict(one.instead)}"
    return {"call": str(one.call), "kernel": one.kernel, "kwargs": dict(one.choice), "reason": reason}


def _numbers(kwargs: Mapping[str, Any]) -> dict[str, int]:
    if any(type(value) is not int for value in kwargs.values()):
        raise ValueError(f"block sizes {kwargs}")
    return dict(kwargs)


def _passed(row: Mapping[str, Any]) -> str:
    """Which gates an entry has passed. Raises ValueError for one that was not checked at all."""
    if row["gates"] != GATES or not isinstance(row["evidence"], list) or not row["evidence"]:
        raise ValueError(f"{row['kernel']} has not passed the gate")
    return GATES


def _require(gpu: Gpu, rules: Sequence[str]) -> None:
    if other := [rule for rule in rules if rule not in OPS]:
        raise TableError(f"--target fla: rule {other[0]!r}; accepted: {', '.join(OPS)}")
    if gpu.arch.backend != "cuda":
        raise TableError(
            f"--target fla: {gpu.slug} is not an NVIDIA GPU; FLA's configurations for others are not known here"
        )
    if installed.where() is None:
        raise TableError("--target fla: flash-linear-attention is not installed; it comes with deltaproof[peers]")


def _site() -> str:
    """The folder that holds FLA, for processes that are started anew."""
    place = installed.where()
    return str(place.parent) if place else ""


def _version() -> str:
    for name in ("fla-core", "flash-linear-attention"):
        try:
            return version(name)
        except PackageNotFoundError:
            continue
    return "unknown"
