"""What is known of one GPU, from its records alone: a summary for the terminal and one page that needs nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console
from rich.table import Table as Grid

from ..results.entry import TableEntry
from ..results.kernel_digest import kernel_digests
from ..results.record import Compiled, Gated, Measured, Record, Rejected
from ..results.table import Table
from ..specs.gpus import gpu as find_gpu
from ..verify.page import render
from . import insight, plots
from .ledger import Ledger

_LIST = 12
"""Rejections shown per reason; the records have them all."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """The records that hold for today's kernels, sorted into what a report says."""

    table: Table
    records: Sequence[Record]

    @classmethod
    def of(cls, ledger: Ledger) -> Findings:
        digests = kernel_digests()
        current = [record for record in ledger.records if digests.get(record.key.op) == record.kernel]
        return cls(table=ledger.table(), records=current)

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
        """The last word on each."""
        last = {(gate.key, gate.config): gate for gate in self.records if isinstance(gate, Gated)}
        return [last[name] for name in sorted(last)]

    @cached_property
    def reasons(self) -> dict[str, Counter[str]]:
        """How many points left, by stage and reason."""
        found: dict[str, Counter[str]] = {}
        for record in self.rejected:
            found.setdefault(record.stage or "all", Counter())[record.reason] += 1
        return dict(sorted(found.items()))

    @cached_property
    def subjects(self) -> dict[tuple[str, str, str, int, int], list[TableEntry]]:
        """Entries by op, rule, dtype and head dimensions."""
        found: dict[tuple[str, str, str, int, int], list[TableEntry]] = {}
        for entry in self.table.entries:
            key = entry.key
            found.setdefault((key.op, key.rule, key.dtype, key.K, key.V), []).append(entry)
        return found


def print_records(console: Console, ledger: Ledger) -> None:
    """Rejections by stage and reason, coverage by family, gates that failed."""
    found = Findings.of(ledger)
    names = sorted({reason for counts in found.reasons.values() for reason in counts})
    rejections = Grid("stage", "compiled", *names, header_style="bold")
    stages = Counter(record.stage for record in found.compiled)
    for stage in sorted({*stages, *found.reasons}):
        counts = found.reasons.get(stage, Counter())
        rejections.add_row(stage, str(stages[stage]), *(str(counts[name] or "") for name in names))
    console.print(rejections)
    coverage = Grid("family", "entries", "tiers", "configurations", "default loses", header_style="bold")
    for (op, rule, dtype, K, V), entries in found.subjects.items():
        tiers = ", ".join(f"{count} {tier}" for tier, count in sorted(Counter(entry.tier for entry in entries).items()))
        losses = [entry.default_loss for entry in entries if entry.default_loss is not None]
        lost = f"{min(losses):.0%} to {max(losses):.0%}" if losses else "unknown"
        name = f"{op} {rule} {dtype} K={K} V={V}"
        coverage.add_row(name, str(len(entries)), tiers, str(len({entry.config for entry in entries})), lost)
    console.print(coverage)
    for left in found.table.left:
        console.print(f"left by a budget: {left.count} points of {left.key}", soft_wrap=True, markup=False)
    for gate in found.gates:
        if not gate.held:
            console.print(f"failed the gate: {gate.key} {gate.config}: {gate.detail}", soft_wrap=True, markup=False)


def page(ledger: Ledger) -> str:
    """The page: no scripts, no fonts, nothing to fetch."""
    found, gpu = Findings.of(ledger), find_gpu(ledger.gpu.slug)
    examples = {
        reason: [record for record in found.rejected if record.reason == reason][:_LIST]
        for reason in sorted({record.reason for record in found.rejected})
    }
    times = insight.predicted(found.compiled, gpu)
    subjects = {" ".join(map(str, subject[:4])): entries for subject, entries in found.subjects.items()}
    compiling = {plots.short(family): steps for family, steps in insight.compile_history(times).items()}
    timing = insight.timing_history(found.measured)
    widths = Counter(entry.key.heads for entry in found.table.entries)
    return render(
        Path(__file__).with_name("report.html.j2"),
        gpu=ledger.gpu,
        found=found,
        examples=examples,
        counts=Counter(record.reason for record in found.rejected),
        losses=[
            (name, plots.losses(entries, of="default_loss"), plots.losses(entries, of="neighbour_loss"))
            for name, entries in subjects.items()
        ],
        rejections=plots.rejections(found.compiled, found.reasons) if found.compiled else "",
        stacks=plots.stacks(found.compiled) if found.compiled else "",
        compiling=plots.history(compiling, "points compiled") if compiling else "",
        timing=plots.history(timing, "configurations timed") if timing else "",
        stage_importance=plots.importance(insight.stage_importance(times)) if times else "",
        config_importance=plots.importance(insight.config_importance(found.measured)) if timing else "",
        roofline=plots.against_roofline(subjects, gpu, max(widths)) if widths else "",
        coverage=plots.coverage(subjects) if subjects else "",
    )
