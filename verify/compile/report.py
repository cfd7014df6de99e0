"""What compiling came to, for people and for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..verdicts.document import environment
from .findings import Finding
from .run import Run

SCHEMA = 1


def print_run(console: Console, run: Run, seconds: float) -> None:
    """A row per GPU, then what cannot be launched, what is slow without need, what spills, and known hazards."""
    table = Table("gpu", "arch", "launches", "fit", "spill", "products on", "hazards", header_style="bold")
    for column in (2, 3, 4, 6):
        table.columns[column].justify = "right"
    for gpu in dict.fromkeys(finding.gpu for finding in run.findings):
        rows = [finding for finding in run.findings if finding.gpu is gpu]
        fit = sum(not finding.problems for finding in rows)
        families = Counter(finding.family for finding in rows if finding.family)
        table.add_row(
            gpu.slug,
            gpu.arch.name,
            str(len(rows)),
            Text(str(fit), style="green" if fit == len(rows) else "bold red"),
            str(sum(finding.binary.stack > 0 for finding in rows)),
            ", ".join(f"{name} {count}" for name, count in families.most_common()),
            str(sum(bool(finding.hazards) for finding in rows)),
        )
    console.print(table)
    failed = [f"{_name(finding)}: {problem}" for finding in run.findings for problem in finding.problems]
    _lines(console, "cannot be launched", failed, "bold red")
    _lines(console, "slow without need", _warnings(run.findings), "yellow")
    _lines(console, "spills", _spills(run.findings), "yellow")
    _lines(console, "known hazards, to be judged on the device first", _hazards(run.findings), "yellow")
    console.print(
        f"{len(run.findings)} launches are {run.compiled + run.cached} programs: {run.compiled} compiled, "
        f"{run.cached} known from the store, {run.left} left, {seconds:.1f} s",
        soft_wrap=True,
    )


def document(run: Run, seconds: float) -> dict[str, Any]:
    """The JSON document. Fields may be added; none changes its meaning within a schema."""
    met = {hazard.id: hazard for finding in run.findings for hazard in finding.hazards}
    return {
        "schema": SCHEMA,
        "environment": environment("none"),
        "toolchain": {name: {"triton": tools.triton, "ptxas": tools.ptxas} for name, tools in run.tools.items()},
        "launches": [finding.to_json() for finding in run.findings],
        "hazards": {name: {"what": hazard.what, "source": list(hazard.source)} for name, hazard in met.items()},
        "summary": {
            "launches": len(run.findings),
            "failed": sum(bool(finding.problems) for finding in run.findings),
            "warned": sum(bool(finding.warnings) for finding in run.findings),
            "spilling": sum(finding.binary.stack > 0 for finding in run.findings),
            "hazardous": sum(bool(finding.hazards) for finding in run.findings),
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


def _by_kernel(findings: Iterable[Finding]) -> Iterable[list[Finding]]:
    """Findings of one kernel on one GPU, together."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        groups.setdefault((finding.gpu.slug, finding.launch.kernel), []).append(finding)
    return groups.values()


def _warnings(findings: Iterable[Finding]) -> Iterable[str]:
    """The first of each kernel and GPU, and how many there are; the JSON report has them all."""
    for group in _by_kernel(finding for finding in findings if finding.warnings):
        more = f" (and {len(group) - 1} more of this kernel)" if len(group) > 1 else ""
        yield f"{_name(group[0])}: {'; '.join(group[0].warnings)}{more}"


def _spills(findings: Iterable[Finding]) -> Iterable[str]:
    """The worst of each kernel and GPU; the JSON report has them all."""
    for group in _by_kernel(finding for finding in findings if finding.binary.stack):
        worst = max(group, key=lambda finding: finding.binary.stack)
        yield (
            f"{worst.gpu.slug} {worst.launch.kernel}: {len(group)} launches, at worst {worst.binary.stack} bytes of stack per "
            f"thread beside {worst.binary.registers} registers, in {worst.piece}"
        )


def _hazards(findings: Iterable[Finding]) -> list[str]:
    """One line for each hazard and architecture: what it is, who saw it, and which kernels meet it."""
    met: dict[tuple[str, str], set[str]] = {}
    known = {}
    for finding in findings:
        for hazard in finding.hazards:
            known[hazard.id] = hazard
            met.setdefault((hazard.id, finding.gpu.arch.name), set()).add(finding.launch.kernel)
    return [
        f"{name} on {arch}: {known[name].what} ({', '.join(known[name].source)}): {', '.join(sorted(kernels))}"
        for (name, arch), kernels in met.items()
    ]


def _name(finding: Finding) -> str:
    return f"{finding.gpu.slug} {finding.piece} {finding.launch.kernel}"
