"""The report on one GPU, from its records alone: a summary for the terminal and one self-contained page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from ...results.evidence.archive import current
from ...results.schema.entry import TableEntry
from ...results.schema.record import Compiled, Gated, Measured, Record, Rejected
from ...results.schema.table import Table
from ...specs.gpus import gpu as find_gpu
from ...verify.report.grid import grid, show
from ...verify.report.page import render
from ...verify.verdicts.plural import counted
from ..records.ledger import Ledger
from ..space.points import Family
from . import analysis, plots
from .summary import LEGEND, WORTH, short, worth

_LIST = 12
"""Rejections shown per reason; the records have them all."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The records that hold for today's kernels, sorted by the sections of a report."""

    table: Table
    records: Sequence[Record]

    @classmethod
    def of(cls, ledger: Ledger) -> Findings:
        return cls(table=ledger.table(), records=current(ledger.records))

    @cached_property
    def compiled(self) -> list[Compiled]:
        return [record for record in self.records if isinstance(record, Compiled)]

    @cached_property
    def measured(self) -> list[Measured]:
        return [record for record in self.records if isinstance(record, Measured)]

    @cached_property
    def rejected(self) -> list[Rejected]:
        return [record for record in self.records if isinstance(record, Rejected)]

    @cached_property
    def gates(self) -> list[Gated]:
        """The last word on each, of every gate and, where code was compiled, every version of Triton."""
        last = {
            (
                gate.key,
                gate.config,
                gate.where,
                gate.triton if gate.where == "compiled" else "",
                bool(gate.schedules),
            ): gate
            for gate in self.records
            if isinstance(gate, Gated)
        }
        return [last[name] for name in sorted(last)]

    @cached_property
    def reasons(self) -> dict[str, Counter[str]]:
        """How many points left, by stage and reason."""
        found: dict[str, Counter[str]] = {}
        for record in self.rejected:
            found.setdefault(record.stage or "all", Counter())[record.reason] += 1
        return dict(sorted(found.items()))

    @cached_property
    def subjects(self) -> dict[Family, list[TableEntry]]:
        found: dict[Family, list[TableEntry]] = {}
        for entry in self.table.entries:
            found.setdefault(analysis.family_of(entry.key), []).append(entry)
        return found


def outdated(ledger: Ledger) -> str | None:
    """One line if no entry or record was made for the kernels as they are."""
    if Findings.of(ledger).records:
        return None
    count = len(ledger.written().entries) if ledger.table_path.exists() else 0
    what = counted(count, "entry") if count else counted(len(ledger.records), "record")
    return f"{what}, all made for other kernel sources: run `{ledger.command()}`"


def print_records(console: Console, ledger: Ledger) -> None:
    """Rejections by stage and reason, coverage by family, gates that failed."""
    found = Findings.of(ledger)
    names = sorted({reason for counts in found.reasons.values() for reason in counts})
    rejections = grid("stage", "compiled", *names)
    stages = Counter(record.stage for record in found.compiled)
    for stage in sorted({*stages, *found.reasons}):
        counts = found.reasons.get(stage, Counter())
        rejections.add_row(stage, str(stages[stage]), *(str(counts[name] or "") for name in names))
    show(console, rejections)
    console.print()
    coverage = grid("family", "entries", "tiers", "gates", *WORTH)
    for subject, entries in found.subjects.items():
        tiers = ", ".join(f"{count} {tier}" for tier, count in sorted(Counter(entry.tier for entry in entries).items()))
        gates = ", ".join(f"{count} {gate}" for gate, count in sorted(Counter(entry.gate for entry in entries).items()))
        coverage.add_row(short(subject), str(len(entries)), tiers, gates, *worth(entries))
    show(console, coverage)
    console.print(LEGEND, soft_wrap=True, markup=False)
    if others := len(ledger.records) - len(found.records):
        console.print(f"left out: {counted(others, 'record')} made for other kernel sources", markup=False)
    for left in found.table.left:
        console.print(f"left by a budget: {counted(left.count, 'point')} of {left.key}", soft_wrap=True, markup=False)
    for gate in found.gates:
        if not gate.held:
            console.print(
                f"failed the gate ({_where(gate)}): {gate.key} {gate.config}: {gate.detail}",
                soft_wrap=True,
                markup=False,
            )


def _where(gate: Gated) -> str:
    """The gate, and the compiler where it judged what that made."""
    return f"{gate.where}, Triton {gate.triton}" if gate.where == "compiled" else gate.where


def page(ledger: Ledger) -> str:
    """The page: no scripts, no fonts, nothing to fetch."""
    found, gpu = Findings.of(ledger), find_gpu(ledger.gpu.slug)
    examples = {
        reason: [record for record in found.rejected if record.reason == reason][:_LIST]
        for reason in sorted({record.reason for record in found.rejected})
    }
    times = analysis.predicted(found.compiled, gpu)
    subjects = found.subjects
    compiling = analysis.compile_history(times)
    timing = analysis.timing_history(found.measured)
    widths = Counter(entry.key.heads for entry in found.table.entries)
    return render(
        Path(__file__).with_name("report.html.j2"),
        gpu=ledger.gpu,
        found=found,
        examples=examples,
        where=_where,
        counts=Counter(record.reason for record in found.rejected),
        losses=[
            (short(family), plots.losses(entries, of="default_loss"), plots.losses(entries, of="neighbour_loss"))
            for family, entries in subjects.items()
        ],
        rejections=plots.rejections(found.compiled, found.reasons) if found.compiled else "",
        stacks=plots.stacks(found.compiled) if found.compiled else "",
        compiling=plots.history(compiling, "points compiled") if compiling else "",
        timing=plots.history(timing, "configurations timed") if timing else "",
        stage_importance=plots.importance(analysis.stage_importance(times)) if times else "",
        config_importance=plots.importance(analysis.config_importance(found.measured)) if timing else "",
        roofline=plots.against_roofline(subjects, gpu, max(widths)) if widths else "",
        coverage=plots.coverage(subjects) if subjects else "",
    )
