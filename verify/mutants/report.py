"""The report of a run of faults: a document for machines, and tables for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

from rich.console import Console
from rich.text import Text

from ..report.bar import bar
from ..report.grid import grid, show
from .judge import MutantResult
from .mutant import family

SCHEMA = 1
_STYLES = {"killed": "green", "survived": "bold red", "equivalent": "yellow", "excluded": "dim"}


class CampaignProgress:
    """A progress bar with the time left on a terminal, otherwise a line per fault."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = bar(console)
        self._task = self._bar.add_task("", total=total, title="planting")
        self._survived = 0

    def __enter__(self) -> CampaignProgress:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def advance(self, doing: str) -> None:
        """One step of something else."""
        self._bar.update(self._task, advance=1, description=doing)

    def take(self, result: MutantResult) -> None:
        self._survived += result.status == "survived"
        self._bar.update(
            self._task, advance=1, description=f"{self._survived} survived; {result.operator} in {result.stage}"
        )
        if result.status == "survived" or not self._console.is_terminal:
            self._console.print(Text(line(result), style=_STYLES[result.status]), soft_wrap=True)


def line(result: MutantResult) -> str:
    """One fault in one line."""
    how = f" by {result.by} ({result.kind})" if result.by else ""
    return f"{result.status}{how} after {result.seconds:.1f} s: {result.id}: {' '.join(result.where.split())[:160]}"


def summary(results: Sequence[MutantResult], peers: Mapping[str, Any]) -> dict[str, Any]:
    """Counts, and score = killed / (planted - equivalent). Excluded faults were drawn but do not count as planted."""
    count = Counter(result.status for result in results)
    planted = len(results) - count["excluded"]
    distinct = planted - count["equivalent"]
    killed = [result for result in results if result.status == "killed"]
    return {
        "drawn": len(results),
        "planted": planted,
        "killed": len(killed),
        "survived": count["survived"],
        "equivalent": count["equivalent"],
        "excluded": count["excluded"],
        "score": round(len(killed) / distinct, 4) if distinct else None,
        "equivalent_share": round(count["equivalent"] / planted, 4) if planted else None,
        "median_seconds": round(median(result.seconds for result in killed), 2) if killed else None,
        "seconds": round(sum(result.seconds for result in results), 1),
        "peers": dict(peers),
        "operators": groups(results, lambda result: family(result.operator)),
        "stages": groups(results, lambda result: result.stage),
        **{name: dict(Counter(getattr(r, key) for r in killed).most_common())
           for name, key in (("properties", "by"), ("arithmetics", "arithmetic"), ("kinds", "kind"))},
    }  # fmt: skip


def groups(results: Sequence[MutantResult], key: Callable[[MutantResult], str]) -> dict[str, dict[str, int]]:
    """Counts of each status by family of operators, or by stage."""
    found: dict[str, Counter[str]] = {}
    for result in results:
        found.setdefault(key(result), Counter())[result.status] += 1
    return {name: {status: found[name][status] for status in _STYLES} for name in sorted(found)}


def document(
    results: Sequence[MutantResult],
    environment: Mapping[str, str],
    setting: Mapping[str, Any],
    peers: Mapping[str, Any],
    detectable: Mapping[str, Any],
    functions: Mapping[str, Any],
) -> dict[str, Any]:
    """The report for machines. detectable: the smallest errors seen. functions: how many there are, and which are out of reach.

    setting: engine and its version, profile, seed, count, target, tau, and how much there was to draw from.
    """
    ordered = sorted(results, key=lambda result: result.id)
    return {
        "schema": SCHEMA,
        "environment": dict(environment),
        "setting": dict(setting),
        "summary": summary(results, peers),
        "detectable": dict(detectable),
        "functions": dict(functions),
        "mutants": [result.to_json() for result in ordered if result.status != "excluded"],
        "excluded": [result.to_json() for result in ordered if result.status == "excluded"],
    }


def print_report(console: Console, results: Sequence[MutantResult], about: Mapping[str, Any]) -> None:
    """Tables by operator and stage, survivors in full, the score."""
    for name in ("operators", "stages"):
        table = grid(name[:-1], *_STYLES)
        for group, counts in about[name].items():
            table.add_row(group, *(str(counts[status] or "-") for status in _STYLES))
        show(console, table)
    for name, said in (("properties", "killed by property"), ("arithmetics", "killed by arithmetic")):
        parts = ", ".join(f"{key} {count}" for key, count in about[name].items())
        console.print(f"{said}: {parts or 'none'}", soft_wrap=True)
    for result in results:
        if result.status == "survived":
            console.print(Text(line(result), style="bold red"), soft_wrap=True)
    for name, counts in about["peers"].items():
        console.print(
            f"{name}: rejects {counts['killed']} of the same {counts['of']} ({counts['score']:.1%})", soft_wrap=True
        )
    score = "nothing to score" if about["score"] is None else f"score {about['score']:.1%}"
    console.print(
        f"{score}: {about['killed']} killed, {about['survived']} survived, {about['equivalent']} equivalent of "
        f"{about['planted']} planted; {about['excluded']} more only crash. Median {about['median_seconds']} s, "
        f"{about['seconds']:.0f} s of judging in all.",
        soft_wrap=True,
    )
