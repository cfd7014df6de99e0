"""The gate on compiled code: are the programs that a configuration compiles to free of known hazards?

`autotune gate` asks it of every configuration that the records of a GPU rank, without a search: those few are compiled
again, judged, and the table is written anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from ...kernels.configs.launch_config import LaunchConfig
from ...results.digests.kernels import record_kernel
from ...results.schema.record import Estimated, Gated, Ranking, Record
from ...results.schema.table import Table
from ...specs.gpus import Gpu
from ...verify.compile import process
from ...verify.process.pool import Workers
from ..compile.binary import Compilation
from ..compile.cache import Cache, default_folder
from ..compile.stage import Progress, compile_points
from ..records import to_records
from ..records.ledger import Ledger
from ..reports.analysis import family_of
from ..space.points import Family, Point, points_of

Served = tuple[Family, LaunchConfig]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What `gate_table` found. asked: configurations judged. failed: one line for each that is refused. broken: one line for
    each that could not be compiled, of which nothing is said. table: as it is now.
    """

    asked: int
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
            records.append(to_records.judged_as_compiled(family, config, programs))
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


def gate_table(ledger: Ledger, gpu: Gpu, *, jobs: int, progress: Progress) -> Outcome:
    """Compile what the rankings hold, judge it, and write the table that follows. Raises TableError, OSError."""
    served = ranked_by(ledger.records)
    points = list(dict.fromkeys(point for family, config in served for point in points_of(family, config)))
    with Workers(jobs, process.start) as workers:
        found = compile_points(points, gpu.arch, workers, Cache(folder=default_folder()), progress=progress).found
    ledger.add(to_records.compiled(point, binary) for point, binary in found.items() if binary.outcome == "compiled")
    records = judged(served, found, gpu)
    ledger.add(records)
    broken = [f"{point}: {binary.outcome} {binary.detail}" for point, binary in found.items() if not binary.code]
    failed = [f"{one.key} {one.config}: {one.detail}" for one in records if not one.held]
    table = ledger.write_table()
    ledger.write_portfolio()
    return Outcome(asked=len(records), failed=failed, broken=broken, table=table)
