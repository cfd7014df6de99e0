"""The claims as a table for a terminal, a JSON document, and a page."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from ..report.page import render
from .claim import Claim, ClaimResult

SCHEMA = 1
_STYLES = {"holds": "green", "holds under conditions": "yellow", "does not hold": "red"}

Groups = Mapping[str, Sequence[Claim]]


def print_results(console: Console, results: Sequence[ClaimResult], groups: Groups, seconds: float) -> None:
    """Group by group: verdict and claim, then its source, then the measurement."""
    for title, members in _grouped(results, groups).items():
        console.print(Text(f"\n{title}", style="bold"))
        for result in members:
            line = Text.assemble((f"{_word(result)}: ", _style(result)), result.claim.claim)
            console.print(Padding(line, (0, 0, 0, 2)))
            console.print(Padding(Text(f"{result.claim.source}  [{result.claim.name}]", style="dim"), (0, 0, 0, 6)))
            console.print(Padding(Text(result.finding.measured), (0, 0, 0, 6)))
            if not result.as_expected:
                text = f"not as recorded, which is: {result.claim.expected}"
                console.print(Padding(Text(text, style="bold red"), (0, 0, 0, 6)))
    console.print(Text(f"\n{summary(results, seconds)}"), soft_wrap=True)


def summary(results: Sequence[ClaimResult], seconds: float) -> str:
    """The findings in one line."""
    papers = [result for result in results if not result.claim.control]
    controls = [result for result in results if result.claim.control]
    found = Counter(result.finding.verdict for result in papers)
    counts = ", ".join(
        f"{found[word]} {word.replace('holds', 'hold').replace('does', 'do')}" for word in _STYLES if found[word]
    )
    failing = sum(result.finding.verdict == "does not hold" for result in controls)
    other = sum(not result.as_expected for result in results)
    unexpected = f"; {other} not as recorded" if other else ""
    return (
        f"{len(papers)} claims: {counts or 'none'}. {failing} of {len(controls)} negative controls fail, as they must"
        f"{unexpected}. {seconds:.1f} s"
    )


def document(results: Sequence[ClaimResult], about: Mapping[str, str], seconds: float) -> dict[str, Any]:
    """The JSON document; fields may be added within a schema."""
    return {
        "schema": SCHEMA,
        "environment": dict(about),
        "claims": [result.to_json() for result in results],
        "seconds": round(seconds, 3),
    }


def page(results: Sequence[ClaimResult], groups: Groups, about: Mapping[str, str], seconds: float) -> str:
    """One self-contained page."""
    return render(
        Path(__file__).with_name("claims.html.j2"),
        groups=_grouped(results, groups),
        unexpected=sum(not result.as_expected for result in results),
        summary=summary(results, seconds),
        environment=about,
    )


def _grouped(results: Sequence[ClaimResult], groups: Groups) -> dict[str, list[ClaimResult]]:
    found = {title: [r for r in results if r.claim in members] for title, members in groups.items()}
    return {title: members for title, members in found.items() if members}


def _word(result: ClaimResult) -> str:
    return f"control {result.finding.verdict}" if result.claim.control else result.finding.verdict


def _style(result: ClaimResult) -> str:
    if result.claim.control:
        return "dim" if result.as_expected else "bold red"
    return _STYLES[result.finding.verdict]
