"""`autotune --gpu X`: enumerate, compile, prune, rank, gate, measure if X is here, write.

Each step is on disk before the next."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..kernels.configs.launch_config import LaunchConfig
from ..results.schema import gpus as limits
from ..results.schema.table import Table
from ..specs.gpus import Gpu
from ..verify.compile import process
from ..verify.compile.compilation import Cache, Compilation
from ..verify.compile.process import COMPILE_SECONDS
from ..verify.process.pool import Workers
from ..verify.process.progress import Progress
from ..verify.verdicts.plural import counted
from .compile.prune import Pruned, prune
from .compile.stage import CompiledPoints, compile_points
from .gates import interpreter as gate
from .gates.running import can_run
from .model.ranking import Ranked, rank, sizes
from .records import findings
from .records.ledger import Ledger
from .space.points import Family, Point, StageCount, enumerate_points, families
from .storage import jobs
from .storage.database import Storage, open_storage
from .tables.gate import judged
from .timing.device import Device, as_it_is
from .timing.measure import TRIALS, bench_of, measure

COMPILING, JUDGING = 0.3, 0.5
"""Shares of a budget after which compiling, and judging in the interpreter, leave the rest to the GPU where there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The request to tune. budget: seconds, None for no end. jobs: processes. out: where tables and records go.

    trials: configurations timed per family and size of call, at most. device: the GPU if it is here, and is to be measured.
    storage: URL of the database of studies, claims and jobs; None for a file under `out`, which only measuring needs.
    """

    gpu: Gpu
    ops: Sequence[str]
    rules: Sequence[str]
    dtypes: Sequence[str]
    dims: Sequence[int]
    jobs: int
    out: Path
    cache: Path
    budget: float | None = None
    timeout: float = COMPILE_SECONDS
    device: Device | None = None
    storage: str | None = None
    trials: int = TRIALS


@dataclass(slots=True, kw_only=True)
class Hooks:
    """How a run reports progress. say: prints one line. warn: prints one line about a problem."""

    say: Callable[[str], object] = field(default=lambda line: None)
    warn: Callable[[str], None] = field(default=lambda line: None)
    progress: Progress = field(default_factory=Progress)


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The outcome of a run."""

    request: Request
    counts: Sequence[StageCount]
    compiled: CompiledPoints
    pruned: Pruned
    ranked: Mapping[Family, Sequence[Ranked]]
    answers: Sequence[gate.GateAnswer]
    table: Table
    table_path: Path
    seconds: float

    @property
    def failed(self) -> bool:
        """Whether verification failed somewhere, or a family that was wholly explored has no entry."""
        without = [family for family, few in self.ranked.items() if not few and family not in self.compiled.left]
        return bool(without) or any(not answer.held for answer in self.answers)


def tune(request: Request, hooks: Hooks) -> Report:
    """Make or extend the table of a GPU. Raises TableError for records that cannot be read, OSError for a full disk."""
    started = time.monotonic()
    budget = math.inf if request.budget is None else request.budget
    target = as_it_is(request.gpu, request.device) if request.device else request.gpu
    arch = target.arch
    ledger = Ledger(request.out, limits.resolve(request.gpu.slug))
    storage = _storage(request)
    how = (
        f"measuring on {request.device.name}"
        if request.device
        else "nothing is timed, and every entry says so (tier C)"
    )
    hooks.say(f"{request.gpu.slug}: compiling and ranking; {how}")
    if ledger.torn:
        hooks.warn(ledger.torn)
    wanted = families(request.ops, request.rules, request.dtypes, request.dims)
    points, counts = _enumerate(wanted, request.gpu)
    total, removed = sum(count.total for count in counts), sum(count.removed.total() for count in counts)
    hooks.say(
        f"space: {counted(total, 'combination')} in {counted(len(wanted), 'family')}, {removed} left out by constraints, "
        f"{len(points)} to compile"
    )

    def keep(point: Point, compilation: Compilation) -> None:
        ledger.add([findings.compiled(point, compilation)])

    cache = Cache(folder=request.cache, warn=hooks.warn)
    with Workers(request.jobs, process.start) as workers:
        compiled = compile_points(
            points, arch, workers, cache,
            on_point=keep, progress=hooks.progress, timeout=request.timeout,
            deadline=started + (COMPILING if request.device else 1.0) * budget,
        )  # fmt: skip
    hooks.say(_spent(compiled, request.jobs))
    pruned = prune(compiled.found, arch)
    ledger.add(findings.rejected(pruned, compiled.found))
    ledger.add(findings.unexplored(wanted, compiled.left, ledger.records))
    hooks.say(_describe_pruned(pruned))
    ranked = {family: rank(family, pruned.survivors, target) for family in wanted}
    for family, few in ranked.items():
        if few or family not in compiled.left:
            ledger.add(findings.ranking(family, few))
    ledger.add(
        judged([(family, one.config) for family, few in ranked.items() for one in few], compiled.found, request.gpu)
    )
    answers = _gate(
        ranked, request, ledger, hooks, deadline=started + JUDGING * budget if request.device else math.inf
    )  # fmt: skip
    if request.device:
        storage = storage or _own_storage(request)
        with bench_of(target, request.device, lambda one: ledger.add([one]), hooks.progress.step, hooks.warn) as bench:
            hooks.progress.begin("measuring", len(wanted) * len(sizes()) * request.trials)
            left = measure(
                bench, ranked, pruned.survivors, deadline=started + budget, known=list(ledger.records), storage=storage,
                standing={one.key: LaunchConfig.parse(one.config) for one in ledger.table().entries if one.tier in "AB"},
                refused={answer.question.subject for answer in answers if not answer.held}, trials=request.trials,
                after_each=_sparingly(ledger.write_table),
            )  # fmt: skip
        hooks.say(f"measured on {request.device.name}" + (f"; the budget left {left} sizes of calls" if left else ""))
    table = ledger.write_table()
    if can_run(arch.name) and (owed := sum(entry.gate == "interpreter" for entry in table.entries)):
        hooks.say(f"{counted(owed, 'entry')} not yet run as compiled, and not served by default before: "
                  + ledger.command("gate"))  # fmt: skip
    if everywhere := ledger.write_portfolio():
        hooks.say(f"portfolio: {counted(len(everywhere.entries), 'entry')} for any known GPU")
    return Report(
        request=request, counts=counts, compiled=compiled, pruned=pruned, ranked=ranked, answers=answers, table=table,
        table_path=ledger.table_path, seconds=time.monotonic() - started,
    )  # fmt: skip


def _sparingly(do: Callable[[], object]) -> Callable[[], None]:
    """Do it whenever asked to, unless that would take more than a tenth of the time."""
    due = 0.0

    def maybe() -> None:
        nonlocal due
        began = time.monotonic()
        if began >= due:
            do()
            due = time.monotonic() + 10 * (time.monotonic() - began)

    return maybe


def _storage(request: Request) -> Storage | None:
    """The database that was named, with this job in it for others to join. Raises TableError for one that cannot be used."""
    if request.storage is None:
        return None
    storage = open_storage(request.storage)
    jobs.post(
        storage, request.gpu.slug, request.trials,
        ops=request.ops, rules=request.rules, dtypes=request.dtypes, dims=request.dims,
    )  # fmt: skip
    return storage


def _own_storage(request: Request) -> Storage:
    """A file beside the records."""
    path = request.out / "studies" / f"{request.gpu.slug}.sqlite"
    path.parent.mkdir(parents=True, exist_ok=True)
    return open_storage(f"sqlite:///{path.resolve()}")


def _enumerate(wanted: Sequence[Family], gpu: Gpu) -> tuple[list[Point], list[StageCount]]:
    points, counts = [], []
    for family in wanted:
        some, few = enumerate_points(family, gpu.arch)
        points += some
        counts += few
    return points, counts


def _gate(
    ranked: Mapping[Family, Sequence[Ranked]], request: Request, ledger: Ledger, hooks: Hooks, *, deadline: float
) -> list[gate.GateAnswer]:
    """Judge the configurations of the table to be, except those judged before by the same sources; none after `deadline`."""
    sources = gate.sources()
    asked = gate.questions((family, one.config) for family, few in ranked.items() for one in few)
    names = {question: findings.evidence(question, sources) for question in asked}
    unknown, known = set(names.values()), {}
    for record in ledger.verdicts():
        if not unknown:
            break  # before the records of other GPUs are read for nothing
        if (name := record.evidence) in unknown:
            unknown.remove(name)
            known[name] = record
    answers, waiting = [], []
    for question in asked:
        record = known.get(names[question])
        if record:
            ledger.add([record])  # so that it has the last word over later verdicts
            answers.append(gate.GateAnswer(question=question, held=record.held, detail=record.detail))
        else:
            waiting.append(question)
    hooks.progress.begin("verifying", len(waiting))
    for answer in gate.ask(waiting, request.jobs):
        question = answer.question
        ledger.add([findings.judged(answer, sources)])
        answers.append(answer)
        hooks.progress.step(_words(question))
        if time.monotonic() > deadline:
            break
    failed = [answer for answer in answers if not answer.held]
    hooks.say(f"in the interpreter: {len(answers) - len(failed)} of {len(asked)} checks passed "
              f"({len(asked) - len(waiting)} known before)")  # fmt: skip
    for answer in failed:
        hooks.warn(f"gate: {_words(answer.question)}: {answer.detail}")
    return answers


def _words(question: gate.GateQuestion) -> str:
    return " ".join(filter(None, (question.op, question.rule, f"K={question.K}" * bool(question.K), question.token)))


def _spent(compiled: CompiledPoints, jobs: int) -> str:
    line = f"compiled: {counted(compiled.ran, 'kernel')}, {compiled.cached} known before"
    if compiled.ran:
        inside = compiled.busy / max(compiled.wall * jobs, 1e-9)
        line += f"; {compiled.wall:.0f} s, {inside:.0%} of the time of {counted(jobs, 'process')} in the compiler"
        line += f", {compiled.cpu:.0f} s of CPU"
    if compiled.left:
        line += f"; the budget left {counted(sum(compiled.left.values()), 'point')}"
    return line


def _describe_pruned(pruned: Pruned) -> str:
    reasons = [left.reason for left in pruned.rejected.values()]
    parts = ", ".join(f"{reasons.count(reason)} {reason}" for reason in dict.fromkeys(sorted(reasons)))
    removed = reasons.count("spill") + reasons.count("duplicate")
    share = removed / pruned.launchable if pruned.launchable else 0.0
    return (
        f"left after compiling: {counted(len(pruned.survivors), 'point')}; rejected: {parts or 'none'}; {share:.0%} of "
        f"{pruned.launchable} launchable points spill or are duplicates; {len(pruned.warned)} miss the fastest tensor-core "
        f"instructions"
    )
