"""What is known of one GPU, from its records alone: a summary for the terminal and one page that needs nothing else."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from rich.console import Console
from rich.table import Table as Grid

from ..results.entry import TableEntry
from ..results.kernel_digest import kernel_digests
from ..results.key import Key
from ..results.record import Compiled, Gated, Record, Rejected
from ..results.table import Table
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
    found = Findings.of(ledger)
    examples = {
        reason: [record for record in found.rejected if record.reason == reason][:_LIST]
        for reason in sorted({record.reason for record in found.rejected})
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template = environment.from_string(Path(__file__).with_name("report.html.j2").read_text(encoding="utf-8"))
    return template.render(
        gpu=ledger.gpu,
        found=found,
        examples=examples,
        counts=Counter(record.reason for record in found.rejected),
        losses=[(_name(subject), _losses(entries)) for subject, entries in found.subjects.items()],
        rejections=_bars(found),
        stacks=_stacks(found),
    )


def _name(subject: tuple[str, str, str, int, int]) -> str:
    op, rule, dtype, K, V = subject
    return f"{op}, {rule}, {dtype}, K={K}, V={V}"


def _bars(found: Findings) -> str:
    """Points by stage: what stayed, and what left for which reason."""
    figure, axes = _axes(7, 2.6)
    stages = sorted({record.stage for record in found.compiled})
    total = Counter(record.stage for record in found.compiled)
    after = {stage: total[stage] - sum(found.reasons.get(stage, Counter())[name] for name in ("resources", "spill", "duplicate"))
             for stage in stages}  # fmt: skip
    rows = {"kept": [after[stage] for stage in stages]}
    for name in sorted({reason for counts in found.reasons.values() for reason in counts}):
        rows[name] = [found.reasons.get(stage, Counter())[name] for stage in stages]
    start = [0] * len(stages)
    for name, values in rows.items():
        axes.barh(stages, values, left=start, label=name)
        start = [before + value for before, value in zip(start, values, strict=True)]
    axes.set_xlabel("points")
    axes.legend(fontsize=7, frameon=False)
    return _svg(figure)


def _stacks(found: Findings) -> str:
    """Stack against registers: where spilling begins."""
    figure, axes = _axes(7, 2.6)
    for stage in sorted({record.stage for record in found.compiled}):
        some = [record for record in found.compiled if record.stage == stage]
        registers = [record.resources.registers / max(1, record.resources.threads) for record in some]
        axes.scatter(registers, [record.stack for record in some], s=8, alpha=0.6, label=stage)
    axes.set_yscale("symlog", linthresh=16)
    axes.set_xlabel("registers per thread")
    axes.set_ylabel("stack, bytes per thread")
    axes.legend(fontsize=7, frameon=False)
    return _svg(figure)


def _losses(entries: Sequence[TableEntry]) -> str:
    """What the safe default loses, by tokens and heads."""
    keys: list[Key] = [entry.key for entry in entries]
    tokens, heads = sorted({key.tokens for key in keys}), sorted({key.heads for key in keys})
    table = [[float("nan")] * len(tokens) for _ in heads]
    for entry in entries:
        if entry.default_loss is not None:
            table[heads.index(entry.key.heads)][tokens.index(entry.key.tokens)] = 100 * entry.default_loss
    figure, axes = _axes(5, 1.9)
    image = axes.imshow(table, cmap="viridis", aspect="auto", vmin=0)
    axes.set_xticks(range(len(tokens)), [str(count) for count in tokens], fontsize=7)
    axes.set_yticks(range(len(heads)), [str(count) for count in heads], fontsize=7)
    axes.set_xlabel("tokens", fontsize=8)
    axes.set_ylabel("sequences x heads", fontsize=8)
    figure.colorbar(image, ax=axes, label="%")
    return _svg(figure)


def _axes(width: float, height: float):
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    # Equal records give an equal page.
    matplotlib.rcParams["svg.hashsalt"] = "deltaproof"
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
