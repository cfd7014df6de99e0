"""A run as one self-contained page: failures with reasons, the matrix of verdicts, how near to their budgets errors come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...specs.rule import NAMED
from ..execution.compare import OUTPUTS
from ..execution.ratios import order
from ..properties import NAMES
from ..verdicts.document import Document
from ..verdicts.judgement import Verdict, replay_line
from ..verdicts.plural import counted
from .page import render
from .text import BAD, alike, coverage, details, headline, notes

_WORST, _SLOWEST = 12, 12
"""Rows of a list that would otherwise be as long as the run."""
_GLYPHS = {"held": "✓", "failed": "✗", "error": "!", "unsupported": "?", "inapplicable": "–"}
_MEANINGS = {
    "held": "held",
    "failed": "failed",
    "error": "broke before a verdict",
    "unsupported": "could not be judged",
    "inapplicable": "does not apply",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Square:
    """One square of the matrix. text: the status as one glyph; title: the verdict in words; anchor: of its failure."""

    status: str
    text: str
    title: str
    anchor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Heat:
    """Largest error over budget by regime (rows) and tensor (columns); None where nothing was measured."""

    title: str
    tensors: Sequence[str]
    rows: Mapping[str, Sequence[float | None]]


def page(document: Document) -> str:
    """The page of a run."""
    verdicts = document.verdicts
    failures = alike(verdicts)
    anchors = {id(verdict): f"failure-{number}" for number, group in enumerate(failures, 1) for verdict in group}
    present = {verdict.property for verdict in verdicts}
    measured = [verdict for verdict in verdicts if verdict.worst_ratio is not None and verdict.worst]
    return render(
        Path(__file__).with_name("report.html.j2"),
        failed=sum(verdict.status in BAD for verdict in verdicts),
        counts={status: sum(verdict.status == status for verdict in verdicts) for status in _GLYPHS},
        glyphs=_GLYPHS,
        meanings=_MEANINGS,
        coverage=coverage(verdicts, document.seconds),
        covered=document.covered,
        failures=[
            (f"failure-{number}", headline(group[0]), details(group[0]), [verdict.rule for verdict in group[1:]])
            for number, group in enumerate(failures, 1)
        ],
        properties=[*(name for name in NAMES if name in present), *sorted(present - set(NAMES))],
        matrix=_matrix(verdicts, anchors),
        heats=_heats(verdicts),
        worst=[
            (verdict, replay_line(verdict.target, verdict.worst or "", verdict.arithmetic))
            for verdict in sorted(measured, key=lambda verdict: -order(verdict.worst_ratio or 0.0))[:_WORST]
        ],
        notes=notes(verdicts),
        spent=_spent(verdicts),
        slowest=sorted((v for v in verdicts if not v.cached), key=lambda verdict: -verdict.seconds)[:_SLOWEST],
        environment=document.environment,
        targets=list(dict.fromkeys(verdict.target for verdict in verdicts)),
        seconds=document.seconds,
    )


def _matrix(verdicts: Sequence[Verdict], anchors: Mapping[int, str]) -> dict[str, dict[str, dict[str, Square]]]:
    """kernel -> rule -> property -> square."""
    rules = list(NAMED)
    found: dict[str, dict[str, dict[str, Square]]] = {}
    for verdict in sorted(verdicts, key=lambda v: rules.index(v.rule) if v.rule in rules else len(rules)):
        words = [headline(verdict)]
        if verdict.worst_ratio is not None:
            words.append(f"worst error {verdict.worst_ratio:.3g} of its budget")
        words.append(counted(verdict.problems, "problem"))
        square = Square(
            status=verdict.status,
            text=_GLYPHS[verdict.status],
            title=", ".join(words),
            anchor=anchors.get(id(verdict), ""),
        )
        found.setdefault(verdict.kernel, {}).setdefault(verdict.rule, {})[verdict.property] = square
    order_of = list(dict.fromkeys(verdict.kernel for verdict in verdicts))
    return {kernel: found[kernel] for kernel in order_of}


def _heats(verdicts: Sequence[Verdict]) -> list[Heat]:
    """One map over all kernels, then one for each."""
    kernels = list(dict.fromkeys(verdict.kernel for verdict in verdicts if verdict.ratios))
    maps = [_heat("all kernels", verdicts)] if kernels else []
    return maps + [_heat(name, [v for v in verdicts if v.kernel == name]) for name in kernels if len(kernels) > 1]


def _heat(title: str, verdicts: Sequence[Verdict]) -> Heat:
    worst: dict[tuple[str, str], float] = {}
    for verdict in verdicts:
        for regime, tensor, ratio in verdict.ratios:
            worst[regime, tensor] = max(worst.get((regime, tensor), 0.0), ratio, key=order)
    seen = {tensor for _, tensor in worst}
    tensors = [*(name for name in OUTPUTS if name in seen), *sorted(seen - set(OUTPUTS))]
    regimes = sorted({regime for regime, _ in worst})
    # The regime that comes nearest to its budget first.
    regimes.sort(key=lambda regime: -max(order(ratio) for (name, _), ratio in worst.items() if name == regime))
    return Heat(
        title=title,
        tensors=tensors,
        rows={regime: [worst.get((regime, tensor)) for tensor in tensors] for regime in regimes},
    )


def _spent(verdicts: Sequence[Verdict]) -> list[tuple[str, float, float]]:
    """(property, seconds, share of the longest), the longest first; verdicts from the store took none."""
    seconds: dict[str, float] = {}
    for verdict in verdicts:
        if not verdict.cached:
            seconds[verdict.property] = seconds.get(verdict.property, 0.0) + verdict.seconds
    longest = max(seconds.values(), default=0.0) or 1.0
    return [(name, spent, spent / longest) for name, spent in sorted(seconds.items(), key=lambda pair: -pair[1])]
