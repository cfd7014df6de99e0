"""After an edit of a kernel: entries whose compiled programs have not changed are carried over, and the rest is left.

A table is made for kernels of certain digests. Where an edit changes a digest but not the program that the compiler makes of
it, all that is known of the program still holds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from ...kernels.configs.launch_config import LaunchConfig
from ...kernels.configs.space import tuned_variants
from ...results.digests.kernels import kernel_digest, record_kernel
from ...results.schema.entry import TableEntry
from ...results.schema.record import Compiled, Gated, Record
from ...results.schema.table import Table
from ...results.schema.token import head_of
from ...specs.gpus import Gpu
from ...verify.compile import process
from ...verify.compile.compilation import Cache, Compilation
from ...verify.compile.programs import ptxas_version, triton_version
from ...verify.process.pool import Workers
from ...verify.process.progress import Progress
from ..compile.stage import compile_points
from ..records.ledger import Ledger
from ..space.points import Family, Point, family_of, point_of, points_of
from .gate import ranked_by


@dataclass(frozen=True, slots=True, kw_only=True)
class RekeyOutcome:
    """The results of `rekey`. stale: entries that an edit made stale. carried: of those, how many hold again. left: why others do
    not, a line for each configuration. unjudged: versions of Triton under which entries passed that hold again, but
    whose programs were not compared. table: as it is now.
    """

    stale: int
    carried: int
    left: Sequence[str]
    unjudged: Sequence[str]
    table: Table


def rekey(ledger: Ledger, gpu: Gpu, cache: Cache, *, jobs: int, progress: Progress) -> RekeyOutcome:
    """Recompile the launches of stale entries, carry over unchanged ones, and write the table. Raises TableError, OSError.

    A program is the same without being compiled if its kernel was not edited and its compiler is the one that is here.
    Configurations of variants that a tuner does not look at any more are left behind.
    """
    stale = stale_entries(ledger.written())
    wanted = {(family_of(entry.key), LaunchConfig.parse(entry.config)) for entry in stale}
    wanted |= {*ranked_by(ledger.records, current=False)} - {*ranked_by(ledger.records)}
    wanted = {
        (family, config) for family, config in wanted if config.variant in tuned_variants(family.op, family.dtype)
    }
    before = {subject: _programs(*subject, ledger.records) for subject in wanted}
    assembler = ptxas_version(gpu.arch.target) or ""
    known = dict.fromkeys(
        point for programs in before.values() for point, then in programs.items() if not _unchanged(then, assembler)
    )
    with Workers(jobs, process.start) as workers:
        now = compile_points(list(known), gpu.arch, workers, cache, progress=progress).found
    left = []
    for family, config in sorted(wanted, key=lambda one: (one[0], one[1].token)):
        then = before[family, config]
        differences = [
            line
            for point in points_of(family, config)
            if (line := _difference(point, then.get(point), now.get(point), assembler))
        ]
        if differences:
            left.append(f"{family} {config.token}: {'; '.join(differences)}")
        else:
            ledger.add(list(_carried(family, config, ledger.records)))
    table = ledger.write_table()
    ledger.write_portfolio()
    holding = {(entry.key, entry.config): entry for entry in table.entries}
    carried = [(entry, holding[place]) for entry in stale if (place := (entry.key, entry.config)) in holding]
    unjudged = {triton for was, is_now in carried for triton in {*was.passed_under} - {*is_now.passed_under}}
    return RekeyOutcome(stale=len(stale), carried=len(carried), left=left, unjudged=sorted(unjudged), table=table)


def stale_entries(table: Table) -> list[TableEntry]:
    """The entries that were made for other kernels than there are."""
    return [entry for entry in table.entries if kernel_digest(entry.key, entry.config) != entry.kernel]


def _programs(family: Family, config: LaunchConfig, records: Sequence[Record]) -> dict[Point, Compiled]:
    """The programs by which a configuration was ranked and judged: those compiled before the last record about it.

    A run of the edited kernels that was interrupted may have compiled them since.
    """
    said = [
        index for index, one in enumerate(records)
        if not _stage(one) and family_of(one.key) == family and one.config == config.token
    ]  # fmt: skip
    points = set(points_of(family, config))
    before = records[: said[-1]] if said else ()
    compiled = {point_of(one): one for one in before if isinstance(one, Compiled) and one.program}
    return {point: record for point, record in compiled.items() if point in points}


def _unchanged(then: Compiled, assembler: str) -> bool:
    """Whether compiling again could only repeat what was recorded: of the same kernel, by the same compiler."""
    return (then.kernel, then.triton, then.assembler) == (record_kernel(then), triton_version(), assembler)


def _difference(point: Point, then: Compiled | None, now: Compilation | None, assembler: str) -> str:
    """Why a program may be another one, in a few words; "" where it is the same."""
    if then is None:
        return f"{point.stage}: there is no record of its program"
    if _unchanged(then, assembler):
        return ""
    if now is None or now.outcome != "compiled":
        return f"{point.stage}: does not compile" + (f" ({now.outcome})" if now else "")
    if (then.triton, then.assembler) != (triton_version(), now.assembler):
        return f"{point.stage}: was compiled by Triton {then.triton} and assembler {then.assembler or 'unknown'}"
    return "" if then.program == now.program else f"{point.stage}: another program"


def _carried(family: Family, config: LaunchConfig, records: Sequence[Record]) -> Iterator[Record]:
    """The records of a configuration, rewritten for the kernels as they are now."""
    token = config.token
    stages = {point.stage: point.config.token for point in points_of(family, config)}
    # Records of still other kernels may not be carried over: only those of the kernels that the last record names.
    old = [one.kernel for one in records if family_of(one.key) == family and one.config == token and not _stage(one)][
        -1:
    ]
    for record in records:
        about, stage = family_of(record.key), _stage(record)
        if stage:
            same = about == family and stages.get(stage) == record.config and isinstance(record, Compiled)
        elif isinstance(record, Gated) and record.where == "compiled" and record.triton != triton_version():
            # The programs that another Triton makes of the edited kernels were not compared.
            same = False
        else:
            arithmetic = about == replace(family, K=0, V=0) and record.config == head_of(token)
            same = ((about == family and record.config == token) or arithmetic) and record.kernel in old
        if same:
            yield replace(record, kernel=record_kernel(record))


def _stage(record: Record) -> str:
    return getattr(record, "stage", "")
