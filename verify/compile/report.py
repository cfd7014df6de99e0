"""The results of compiling, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.text import Text

from ..report.grid import grid, show
from ..verdicts.document import environment
from .diagnostics import Diagnostic
from .run import CompileRun

SCHEMA = 1


def print_run(console: Console, run: CompileRun, seconds: float) -> None:
    """A row per GPU; then the launches that cannot run, are assembled wrongly, are slow without need, or spill; then hazards."""
    table = grid("gpu", "arch", "launches", "right", "spill", "hazards", "products on", left=2)
    for gpu in dict.fromkeys(diagnostic.gpu for diagnostic in run.diagnostics):
        rows = [diagnostic for diagnostic in run.diagnostics if diagnostic.gpu is gpu]
        fit = sum(not diagnostic.failed for diagnostic in rows)
        families = Counter(diagnostic.family for diagnostic in rows if diagnostic.family)
        table.add_row(
            gpu.slug,
            gpu.arch.name,
            str(len(rows)),
            Text(str(fit), style="green" if fit == len(rows) else "bold red"),
            str(sum(diagnostic.binary.stack > 0 for diagnostic in rows)),
            str(sum(bool(diagnostic.hazards) for diagnostic in rows)),
            ", ".join(f"{name} {count}" for name, count in families.most_common()),
        )
    show(console, table)
    for title, passed_over, style in (
        ("cannot be launched", False, "bold red"),
        ("cannot be launched, and the autotuner passes over it", True, "yellow"),
    ):
        some = [diagnostic for diagnostic in run.diagnostics if diagnostic.passed_over is passed_over]
        _lines(console, title, [f"{_name(one)}: {problem}" for one in some for problem in one.problems], style)
    wrong = [
        f"{_name(diagnostic)}: {diagnostic.misassembled}" for diagnostic in run.diagnostics if diagnostic.misassembled
    ]
    _lines(console, "assembled wrongly (docs/compiled-code.md)", wrong, "bold red")
    _lines(console, "slow without need", _warnings(run.diagnostics), "yellow")
    _lines(console, "spills", _spills(run.diagnostics), "yellow")
    _lines(console, "known hazards, to be judged on the device first", _hazards(run.diagnostics), "yellow")
    console.print(
        f"{len(run.diagnostics)} launches are {run.compiled + run.cached} programs: {run.compiled} compiled, "
        f"{run.cached} known from the store, {run.left} left, {seconds:.1f} s",
        soft_wrap=True,
    )


def document(run: CompileRun, seconds: float) -> dict[str, Any]:
    """The JSON document. Fields may be added; none changes its meaning within a schema."""
    met = {hazard.id: hazard for diagnostic in run.diagnostics for hazard in diagnostic.hazards}
    return {
        "schema": SCHEMA,
        "environment": environment("none"),
        "toolchain": {name: {"triton": tools.triton, "ptxas": tools.ptxas} for name, tools in run.tools.items()},
        "launches": [diagnostic.to_json() for diagnostic in run.diagnostics],
        "hazards": {name: {"what": hazard.what, "source": list(hazard.source)} for name, hazard in met.items()},
        "summary": {
            "launches": len(run.diagnostics),
            "failed": sum(diagnostic.failed for diagnostic in run.diagnostics),
            "misassembled": sum(bool(diagnostic.misassembled) for diagnostic in run.diagnostics),
            "warned": sum(bool(diagnostic.warnings) for diagnostic in run.diagnostics),
            "spilling": sum(diagnostic.binary.stack > 0 for diagnostic in run.diagnostics),
            "hazardous": sum(bool(diagnostic.hazards) for diagnostic in run.diagnostics),
            "compiled": run.compiled,
            "cached": run.cached,
            "left": run.left,
            "seconds": round(seconds, 1),
        },
    }


def _lines(console: Console, title: str, lines: Iterable[str], style: str) -> None:
    for number, line in enumerate(lines):
        if not number:
            console.print(Text(f"{title}:", style=style))
        # Never wrapped or marked up: configurations must survive being copied.
        console.print(Text(f"  {line}"), soft_wrap=True)


def _by_kernel(diagnostics: Iterable[Diagnostic]) -> Iterable[list[Diagnostic]]:
    """Diagnostics of one kernel on one GPU, together."""
    groups: dict[tuple[str, str], list[Diagnostic]] = {}
    for diagnostic in diagnostics:
        groups.setdefault((diagnostic.gpu.slug, diagnostic.launch.kernel), []).append(diagnostic)
    return groups.values()


def _warnings(diagnostics: Iterable[Diagnostic]) -> Iterable[str]:
    """The first of each kernel and GPU, and how many there are; the JSON report has them all."""
    for group in _by_kernel(diagnostic for diagnostic in diagnostics if diagnostic.warnings):
        more = f" (and {len(group) - 1} more of this kernel)" if len(group) > 1 else ""
        yield f"{_name(group[0])}: {'; '.join(group[0].warnings)}{more}"


def _spills(diagnostics: Iterable[Diagnostic]) -> Iterable[str]:
    """The worst of each kernel and GPU; the JSON report has them all."""
    for group in _by_kernel(diagnostic for diagnostic in diagnostics if diagnostic.binary.stack):
        worst = max(group, key=lambda diagnostic: diagnostic.binary.stack)
        where = f"{worst.piece} {worst.launch.choice}".rstrip()
        yield (
            f"{worst.gpu.slug} {worst.launch.kernel}: {len(group)} launches, at worst {worst.binary.stack} bytes of stack per "
            f"thread beside {worst.binary.registers} registers, in {where}"
        )


def _hazards(diagnostics: Iterable[Diagnostic]) -> list[str]:
    """One line for each hazard and architecture: its name, its source, and the kernels that meet it."""
    met: dict[tuple[str, str], set[str]] = {}
    known = {}
    for diagnostic in diagnostics:
        for hazard in diagnostic.hazards:
            known[hazard.id] = hazard
            met.setdefault((hazard.id, diagnostic.gpu.arch.name), set()).add(diagnostic.launch.kernel)
    return [
        f"{name} on {arch}: {known[name].what} ({', '.join(known[name].source)}): {', '.join(sorted(kernels))}"
        for (name, arch), kernels in met.items()
    ]


def _name(diagnostic: Diagnostic) -> str:
    launch = f"{diagnostic.launch.kernel} {diagnostic.launch.choice}".rstrip()
    return f"{diagnostic.gpu.slug} ({diagnostic.gpu.arch.name}) {diagnostic.piece} {launch}"
