"""The results of a run, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from rich.console import Console

from ...kernels.configs.space import CONSTRAINTS
from ...results.export.t4 import T4Result
from ...results.schema.entry import TableEntry
from ...verify.compile.programs import triton_version
from ...verify.report.grid import grid, show
from ...verify.verdicts.plural import counted
from ..space.points import Family, StageCount, family_of
from ..tune import Report

SCHEMA = 1


def short(family: Family) -> str:
    """A family in few letters: `chunk_fwd gdn2 bf16 128`, or 128x64 where K and V differ."""
    sizes = str(family.K) if family.K == family.V else f"{family.K}x{family.V}"
    return f"{family.op} {family.rule} {family.dtype} {sizes}"


WORTH = "configs", "default\nloses"
LEGEND = (
    "configs: how many different configurations the family's entries name; default loses: the safe default's extra time"
)


def worth(entries: Iterable[TableEntry]) -> tuple[str, str]:
    """The cells under WORTH: how many different configurations the entries of a family name, and the known loss of the safe
    default against them, from its least over the sizes of call to its greatest."""
    entries = list(entries)
    losses = [entry.default_loss for entry in entries if entry.default_loss is not None]
    span = f"{min(losses):.0%} to {max(losses):.0%}" if losses else "unknown" if entries else "-"
    return str(len({entry.config for entry in entries})), span


def print_space(console: Console, counts: Sequence[StageCount]) -> None:
    """A small table for each family, one row per stage, and the reasons that removed something."""
    constraints = [constraint for constraint in CONSTRAINTS if any(count.removed[constraint.name] for count in counts)]
    by_family: dict[Family, list[StageCount]] = {}
    for count in counts:
        by_family.setdefault(count.family, []).append(count)
    for family, stages in by_family.items():
        table = grid("stage", "all", *(constraint.name for constraint in constraints), "left")
        table.columns[0].min_width = max(len(count.stage) for count in counts)
        for count in stages:
            removed = [str(count.removed[constraint.name] or "") for constraint in constraints]
            table.add_row(count.stage, str(count.total), *removed, str(count.left))
        console.print(str(family), style="bold", markup=False)
        show(console, table)
        console.print()
    for constraint in constraints:
        console.print(f"{constraint.name:10} {constraint.reason}", soft_wrap=True, markup=False)
    total, left = sum(count.total for count in counts), sum(count.left for count in counts)
    console.print(f"{counted(total, 'combination')}, {counted(left, 'point')} to compile", markup=False)


def print_summary(console: Console, report: Report) -> None:
    """One row per family: its compiled points, its table entries, and their known or predicted gain over the default."""
    table = grid("family", "compiled", "distinct", "kept", *WORTH, "left")
    for family in report.ranked:
        found = {point: binary for point, binary in report.compiled.found.items() if point.family == family}
        codes = {binary.code for binary in found.values() if binary.outcome == "compiled"}
        survivors = sum(point.family == family for point in report.pruned.survivors)
        entries = [entry for entry in report.table.entries if family_of(entry.key) == family]
        left = report.compiled.left.get(family, 0)
        table.add_row(short(family), *map(str, (len(found), len(codes), survivors, *worth(entries), left or "")))
    show(console, table)
    console.print(LEGEND, soft_wrap=True, markup=False)
    tiers = Counter(entry.tier for entry in report.table.entries)
    guessed = "compiled and ranked by the cost model, not timed; losses are predictions"
    how = ", ".join(f"{count} of tier {tier}" + f": {guessed}" * (tier == "C") for tier, count in sorted(tiers.items()))
    console.print(
        f"{counted(tiers.total(), 'entry')} in {report.table_path} ({how or 'none'}); {report.seconds:.0f} s",
        soft_wrap=True, markup=False,
    )  # fmt: skip
    if left := sum(report.compiled.left.values()):
        console.print(f"{counted(left, 'point')} left: the same command goes on", markup=False)


def document(report: Report) -> dict[str, Any]:
    """The run as JSON values. Fields may be added; none changes its meaning within a schema."""
    compiled, pruned = report.compiled, report.pruned
    return {
        "schema": SCHEMA,
        "gpu": report.request.gpu.slug,
        "environment": {"triton": triton_version(), "jobs": report.request.jobs},
        "space": {
            "combinations": sum(count.total for count in report.counts),
            "left": sum(count.left for count in report.counts),
        },
        "compile": {
            "ran": compiled.ran,
            "cached": compiled.cached,
            "wall": round(compiled.wall, 1),
            "busy": round(compiled.busy, 1),
            "cpu": round(compiled.cpu, 1),
            "left": sum(compiled.left.values()),
        },
        "rejected": dict(Counter(left.reason for left in pruned.rejected.values())),
        "launchable": pruned.launchable,
        "kept": len(pruned.survivors),
        "slow_products": len(pruned.warned),
        "gate": {"held": sum(a.held for a in report.answers), "failed": sum(not a.held for a in report.answers)},
        "table": {"path": str(report.table_path), "entries": len(report.table.entries)},
        "families": {
            str(family): {
                "distinct": len({
                    binary.code for point, binary in compiled.found.items() if point.family == family and binary.code
                }),
                "configurations": [ranked.config.token for ranked in few],
            }
            for family, few in report.ranked.items()
        },
        "seconds": round(report.seconds, 1),
    }  # fmt: skip


def print_t4(console: Console, results: Iterable[T4Result]) -> None:
    """How many configurations of each kind, and the five fastest."""
    results = list(results)
    for kind, count in Counter(result.invalidity for result in results).most_common():
        console.print(f"{count:6} {kind}", markup=False)
    timed = sorted(((median(r.samples), r) for r in results if r.samples), key=lambda pair: pair[0])
    for milliseconds, result in timed[:5]:
        console.print(f"{milliseconds:.6g} ms  {result.parameters}", soft_wrap=True, markup=False)
    if not timed:
        console.print("no timings in it, so none is the fastest", markup=False)
