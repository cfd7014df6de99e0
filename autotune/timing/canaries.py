"""After a change of Triton or of the driver: a few entries are tried again, instead of everything.

On the GPU itself canaries are gated and timed again. A gate that fails is recorded, and ends the entry; a time only warns: a few
configurations under new versions say nothing of those that they were chosen from. Anywhere else canaries are compiled again:
equal machine code takes equal time, and a difference shows an entry that must be tuned again.
"""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ...kernels.configs.launch_config import LaunchConfig
from ...results.digests.kernels import kernel_digest
from ...results.schema.entry import TableEntry
from ...results.schema.record import Compiled, Measured, Record, record_digest
from ...results.schema.table import Table
from ...specs.gpus import Architecture, Gpu
from ...verify.compile import process
from ...verify.compile.compilation import Cache, Compilation
from ...verify.process.pool import Workers
from ..compile.prune import too_large
from ..compile.stage import compile_points
from ..space.points import Point, family_of, point_of, points_of
from .device import CallSizes, Timed
from .shared_trials import Bench, DeviceGate

MOST = 4
"""Canaries, at most."""
SLOWER = 0.05
"""Extra time, as a fraction, from which a canary says that the table is out of date."""
ROUNDS = 2

Compile = Callable[[Sequence[Point]], Sequence[Compilation]]


@dataclass(slots=True, kw_only=True)
class CanaryVerdict:
    """lines: the report. dead: canaries that can no longer be launched, or are wrong. changed: those that compile to another
    program, or are slower. same: unchanged ones.
    """

    lines: list[str] = field(default_factory=list)
    dead: int = 0
    changed: int = 0
    same: int = 0


def canaries(table: Table, *, most: int = MOST) -> list[TableEntry]:
    """A few entries as unlike as can be: every configuration counts once, and subjects take turns."""
    turns: dict[tuple[str, str, int], list[TableEntry]] = {}
    configs: set[tuple[str, str]] = set()
    for entry in sorted(table.entries, key=lambda entry: (entry.key.tokens, entry.key.heads), reverse=True):
        if kernel_digest(entry.key, entry.config) == entry.kernel and (entry.key.op, entry.config) not in configs:
            configs.add((entry.key.op, entry.config))
            turns.setdefault((entry.key.op, entry.key.rule, entry.key.K), []).append(entry)
    chosen: list[TableEntry] = []
    while turns and len(chosen) < most:
        for subject in list(turns):
            if len(chosen) < most:
                chosen.append(turns[subject].pop(0))
            if not turns[subject]:
                del turns[subject]
    return chosen


def recompile(some: Sequence[TableEntry], records: Sequence[Record], gpu: Gpu, compile: Compile) -> CanaryVerdict:
    """Compile the stages of the canaries and compare them with their records."""
    before = {
        (point_of(record), record.triton): record for record in records if isinstance(record, Compiled) and record.stage
    }
    verdict = CanaryVerdict()
    for entry in some:
        points = points_of(family_of(entry.key), LaunchConfig.parse(entry.config))
        differences, broken = [], []
        for point, now in zip(points, compile(points), strict=True):
            if now.outcome != "compiled" or (too_much := too_large(now, gpu.arch)):
                broken.append(f"{point.stage}: {now.detail or now.outcome if now.outcome != 'compiled' else too_much}")
            elif wrong := now.hazard or now.misassembled:
                broken.append(f"{point.stage}: {wrong}")
            elif then := before.get((point, entry.triton)):
                differences += _differences(point.stage, then, now)
            else:
                differences.append(f"{point.stage}: no record of how it was")
        name = f"{entry.key} {entry.config}"
        if broken:
            verdict.dead += 1
            verdict.lines.append(f"{name}: no longer runs: {'; '.join(broken)}")
        elif differences:
            verdict.changed += 1
            verdict.lines.append(f"{name}: {'; '.join(differences)}")
        else:
            verdict.same += 1
            verdict.lines.append(f"{name}: the same machine code as under Triton {entry.triton}")
    return verdict


def retime(some: Sequence[TableEntry], records: Sequence[Record], bench: Bench) -> CanaryVerdict:
    """Gate and time the canaries, and compare them with the measurements that they are in the table for."""
    verdict = CanaryVerdict()
    for entry in some:
        family, size = family_of(entry.key), CallSizes(tokens=entry.key.tokens, heads=entry.key.heads)
        config, name = LaunchConfig.parse(entry.config), f"{entry.key} {entry.config}"
        passed = DeviceGate(bench, family).passed(config)
        rounds = [bench.timer(family, size, config, None) if passed else "gate" for _ in range(ROUNDS)]
        timed = [one for one in rounds if isinstance(one, Timed)]
        if not timed:
            verdict.dead += 1
            verdict.lines.append(f"{name}: no longer runs ({rounds[0]})")
            continue
        now, then = statistics.median(sample for one in timed for sample in one.samples), _measured(entry, records)
        if then is None:
            verdict.changed += 1
            verdict.lines.append(f"{name}: {now:.4g} ms; it was never timed before")
            continue
        change = now / statistics.median(then.samples) - 1
        slower = change > SLOWER
        verdict.changed += slower
        verdict.same += not slower
        verdict.lines.append(f"{name}: {now:.4g} ms, {change:+.1%} of what it was")
    return verdict


def compile_here(arch: Architecture, jobs: int) -> Compile:
    """Compiles with the Triton that is installed, past every cache."""

    def compile(points: Sequence[Point]) -> Sequence[Compilation]:
        with tempfile.TemporaryDirectory() as empty, Workers(jobs, process.start) as workers:
            found = compile_points(points, arch, workers, Cache(folder=Path(empty))).found
        return [found[point] for point in points]

    return compile


def _differences(stage: str, then: Compiled, now: Compilation) -> list[str]:
    if then.code == now.code:
        return []
    registers = then.resources.registers // max(1, then.resources.threads)
    figures = (("registers", registers, now.registers), ("stack", then.stack, now.stack),
               ("shared memory", then.resources.shared, now.shared))  # fmt: skip
    changed = ", ".join(f"{name} {old} -> {new}" for name, old, new in figures if old != new)
    return [f"{stage}: other machine code{', ' + changed if changed else ', the same resources'}"]


def _measured(entry: TableEntry, records: Sequence[Record]) -> Measured | None:
    """The measurement from which an entry's time is."""
    found = (one for one in records if isinstance(one, Measured) and (one.key, one.config) == (entry.key, entry.config))
    return next((one for one in found if record_digest(one) == entry.measurement), None)
