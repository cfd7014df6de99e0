"""What a run came to, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Column, Table

from ..kernels.space import CONSTRAINTS
from ..results.export_t4 import T4Result
from .points import StageCount
from .ranking import sizes
from .toolchain import triton_version
from .tune import Report

SCHEMA = 1


def print_space(console: Console, counts: Sequence[StageCount]) -> None:
    """One row per family and stage, and the reasons that removed something."""
    constraints = [constraint for constraint in CONSTRAINTS if any(count.removed[constraint.name] for count in counts)]
    table = Table(Column("family, and its stages", no_wrap=True), header_style="bold")
    for name in ("all", *(constraint.name for constraint in constraints), "left"):
        table.add_column(name, justify="right", overflow="fold")
    family = None
    for count in counts:
        removed = [str(count.removed[constraint.name] or "") for constraint in constraints]
        if count.family != family:
            table.add_row(str(count.family), style="bold")
        table.add_row(f"  {count.stage}", str(count.total), *removed, str(count.left))
        family = count.family
    console.print(table)
    for constraint in constraints:
        console.print(f"{constraint.name:10} {constraint.reason}", soft_wrap=True, markup=False)
    total, left = sum(count.total for count in counts), sum(count.left for count in counts)
    console.print(f"{total} combinations, {left} points to compile", markup=False)


def print_summary(console: Console, report: Report) -> None:
    """One row per family: what was compiled, what is in the table, and what it is predicted to gain over the default."""
    table = Table(
        "family", "compiled", "distinct", "kept", "configurations", "default loses", "left", header_style="bold"
    )
    for family, few in report.ranked.items():
        found = {point: binary for point, binary in report.compiled.found.items() if point.family == family}
        codes = {binary.code for binary in found.values() if binary.outcome == "compiled"}
        kept = sum(point.family == family for point in report.sifted.kept)
        losses = [
            few[0].milliseconds[size] / min(ranked.milliseconds[size] for ranked in few) - 1 for size in sizes()
        ] if few and few[0].config.token == "c64" else []  # fmt: skip
        gain = f"{min(losses):.0%} to {max(losses):.0%}" if losses else "-"
        left = report.compiled.left.get(family, 0)
        cells = (len(found), len(codes), kept, len(few), gain, left or "")
        table.add_row(str(family), *map(str, cells))
    console.print(table)
    entries = len(report.table.entries)
    console.print(
        f"{entries} entries in {report.table_path} (tier C: compiled and ranked by the cost model, not timed; "
        f"losses are predictions); {report.seconds:.0f} s",
        soft_wrap=True, markup=False,
    )  # fmt: skip


def document(report: Report) -> dict[str, Any]:
    """The run as JSON values. Fields may be added; none changes its meaning within a schema."""
    compiled, sifted = report.compiled, report.sifted
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
        "rejected": dict(Counter(left.reason for left in sifted.rejected.values())),
        "launchable": sifted.launchable,
        "kept": len(sifted.kept),
        "slow_products": len(sifted.warned),
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
