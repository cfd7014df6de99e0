"""The gate on compiled code: are the programs that a configuration compiles to free of known hazards, and right when run?

`autotune gate` asks it of every configuration that the records of a GPU rank, without a search: those few are compiled
again, searched for hazards, run on the CPU where their architecture can be, and the table is written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from ...kernels.configs.launch_config import LaunchConfig
from ...results.digests.kernels import record_kernel
from ...results.schema.record import Estimated, Gated, Ranking, Record
from ...results.schema.table import Table
from ...specs.gpus import Gpu
from ...verify.compile import process
from ...verify.compile.compilation import Cache, Compilation, compiled_folder
from ...verify.compile.programs import triton_version
from ...verify.process.pool import Workers
from ...verify.process.progress import Progress
from ...verify.ptx.architectures import architecture
from ..compile.stage import compile_points
from ..gates.running import RunQuestion, ask_run, can_run, engine
from ..records import findings
from ..records.ledger import Ledger
from ..space.points import Family, Point, family_of, points_of

Served = tuple[Family, LaunchConfig]


@dataclass(frozen=True, slots=True, kw_only=True)
class GateOutcome:
    """The results of `gate_table`. asked: configurations judged. ran: those that were run, known: by an earlier gate. failed: one
    line for each that is refused. broken: one line for each that could not be compiled or run, of which nothing is said. seconds:
    of running, summed over processes. table: as it is now.
    """

    asked: int
    ran: int
    known: int
    seconds: float
    failed: Sequence[str]
    broken: Sequence[str]
    table: Table


def judged(served: Iterable[Served], found: Mapping[Point, Compilation], gpu: Gpu) -> list[Gated]:
    """A record for every configuration whose stages have all compiled; none for GPUs whose code no hazard is known of."""
    if gpu.arch.backend != "cuda":
        return []
    records = []
    for family, config in served:
        stages = {point.stage: found.get(point) for point in points_of(family, config)}
        programs = {stage: binary for stage, binary in stages.items() if binary and binary.outcome == "compiled"}
        if len(programs) == len(stages):
            records.append(findings.judged_as_compiled(family, config, programs))
    return records


def ranked_by(records: Iterable[Record], *, current: bool = True) -> list[Served]:
    """The configurations that the last rankings name, for the kernels as they are or, unless `current`, for any."""
    records = list(records)
    last = {record.key: record.ranking for record in records if isinstance(record, Ranking)}
    served = {
        (family_of(record.key), LaunchConfig.parse(record.config))
        for record in records
        if isinstance(record, Estimated)
        and last.get(family_of(record.key).key()) == record.ranking
        and (record_kernel(record) == record.kernel or not current)
    }
    return sorted(served, key=lambda one: (one[0], one[1].token))


def gate_table(ledger: Ledger, gpu: Gpu, *, jobs: int, progress: Progress) -> GateOutcome:
    """Compile the ranked configurations, judge them, and write the table that follows. Raises TableError, OSError.

    With the Triton that the rankings were made with, or with another: verdicts of several stand side by side, and an entry says
    which of them it passed under.
    """
    served = ranked_by(ledger.records)
    points = list(dict.fromkeys(point for family, config in served for point in points_of(family, config)))
    with Workers(jobs, process.start) as workers:
        found = compile_points(points, gpu.arch, workers, Cache(folder=compiled_folder()), progress=progress).found
    # The resources of another Triton's programs are of no use to a ranking that it did not make.
    if triton_version() in {record.triton for record in ledger.records if isinstance(record, Estimated)}:
        ledger.add(findings.compiled(point, binary) for point, binary in found.items() if binary.outcome == "compiled")
    records = judged(served, found, gpu)
    ledger.add(records)
    broken = [f"{point}: {binary.outcome} {binary.detail}" for point, binary in found.items() if not binary.code]
    searched = {(one.key, one.config): one for one in records}
    clean = [(family, config) for family, config in served if _holds(searched.get((family.key(), config.token)))]
    assembler = next((binary.assembler for binary in found.values() if binary.assembler), "")
    ran = _run(clean, assembler, ledger, gpu, jobs, progress) if can_run(gpu.arch.name) else Ran()
    failed = [f"{one.key} {one.config}: {one.detail}" for one in (*records, *ran.records) if not one.held]
    table = ledger.write_table()
    ledger.write_portfolio()
    return GateOutcome(
        asked=len(records), ran=len(ran.records), known=ran.known, seconds=ran.seconds, failed=failed,
        broken=[*broken, *ran.broken], table=table,
    )  # fmt: skip


@dataclass(slots=True, kw_only=True)
class Ran:
    """The results of running. known: how many records are of an earlier gate; broken: one line for each without an answer."""

    records: list[Gated] = field(default_factory=list)
    known: int = 0
    broken: list[str] = field(default_factory=list)
    seconds: float = 0.0


def _run(served: Sequence[Served], assembler: str, ledger: Ledger, gpu: Gpu, jobs: int, progress: Progress) -> Ran:
    """Run configurations, except those with a known verdict; every answer is on disk before the next is awaited."""
    arch, judging, done = architecture(gpu.arch.name), engine(), Ran()
    names: dict[RunQuestion, str] = {}
    for family, config in served:
        question = RunQuestion(family=family, config=config, arch=arch)
        names[question] = findings.evidence_of_run(question, judging)
    wanted = set(names.values())
    known = {one.evidence: one for one in ledger.verdicts() if one.evidence in wanted}
    done.records = [known[name] for name in names.values() if name in known]
    done.known = len(done.records)
    ledger.add(done.records)
    # Those that share an error budget come one after the other.
    waiting = sorted(
        (question for question, name in names.items() if name not in known),
        key=lambda question: (question.family.rule, question.family.K, question.config.chunk_size, str(question)),
    )
    progress.begin("running compiled code", len(waiting))
    for answer in ask_run(waiting, jobs):
        done.seconds += answer.seconds
        if answer.held is None:
            done.broken.append(f"{answer.question}: {answer.detail}")
        else:
            record = findings.judged_by_running(answer, names[answer.question], assembler)
            ledger.add([record])
            done.records.append(record)
        progress.step(str(answer.question))
    return done


def _holds(record: Gated | None) -> bool:
    return record is not None and record.held
