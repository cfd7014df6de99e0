"""Verdicts as a person reads them: progress while they arrive, then a table, then every failure in full."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from ...specs.rule import NAMED
from ..verdicts.judgement import Counterexample, Verdict, replay_line
from ..verdicts.plural import counted
from .bar import bar

if TYPE_CHECKING:
    from ..calibration.explain import OutputShare

BAD = ("failed", "error")
_STYLES = {"held": "green", "failed": "bold red", "error": "bold red", "unsupported": "yellow", "inapplicable": "dim"}
_OUTCOMES = {
    "not judged": "not judged", "to which it does not apply": "does not apply",
    "declined by the kernel": "declined by the kernel", "declined": "declined by the kernel",
}  # fmt: skip
"""Of cases, as notes count them, and in words; the last is of reports that are kept from before."""
_COUNTED = ("held", "failed", "error", "unsupported")
"""A verdict that does not apply is not part of the coverage."""


class Live:
    """Progress on a console: a bar and the failures on a terminal, otherwise a line per verdict."""

    def __init__(self, console: Console, total: int) -> None:
        self._console = console
        self._bar = bar(console)
        self._task = self._bar.add_task("", total=total, title="judging")

    def __enter__(self) -> Live:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def take(self, verdict: Verdict) -> None:
        """One more verdict is in."""
        self._bar.update(self._task, advance=1, description=f"{verdict.property} {verdict.kernel} {verdict.rule}")
        if verdict.status in BAD or not self._console.is_terminal:
            self._console.print(Text(headline(verdict), style=_STYLES[verdict.status]), soft_wrap=True)


def headline(verdict: Verdict) -> str:
    """One line: status, kind, property, kernel and rule."""
    kind = f" ({verdict.kind})" if verdict.kind else ""
    return f"{verdict.status}{kind}: {verdict.property} of {verdict.kernel} on {verdict.rule}"


def print_report(console: Console, verdicts: Sequence[Verdict], seconds: float) -> None:
    """Table, failures, coverage."""
    _print_table(console, verdicts)
    for group in alike(verdicts):
        first, *others = group
        console.print(Text(f"\n{headline(first)}", style=_STYLES[first.status]), soft_wrap=True)
        for line in details(first):
            # Never wrapped or marked up: tokens must survive being copied, and hold brackets.
            console.print(Text(f"  {line}"), soft_wrap=True)
        if others:
            console.print(Text(f"  likewise on {', '.join(verdict.rule for verdict in others)}"), soft_wrap=True)
    for line in notes(verdicts):
        console.print(Text(line, style="yellow"), soft_wrap=True)
    console.print(Text(coverage(verdicts, seconds)), soft_wrap=True)


def alike(verdicts: Sequence[Verdict]) -> list[list[Verdict]]:
    """The failures, in groups of one kernel, property and message: only the rules differ."""
    groups: dict[tuple[object, ...], list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.status in BAD:
            message = verdict.counterexample.message if verdict.counterexample else verdict.notes[:1]
            groups.setdefault((verdict.kernel, verdict.property, verdict.kind, message), []).append(verdict)
    return list(groups.values())


def coverage(verdicts: Sequence[Verdict], seconds: float) -> str:
    """The coverage in one line."""
    verdicts = [verdict for verdict in verdicts if verdict.status in _COUNTED]
    count = {status: sum(v.status == status for v in verdicts) for status in _COUNTED}
    parts = [f"{number} {status}" for status, number in count.items() if number]
    cached = sum(verdict.cached for verdict in verdicts)
    problems = sum(v.problems for v in verdicts)
    kernels = len({v.kernel for v in verdicts if v.kernel != "oracle"})
    configs = len({(v.kernel, config) for v in verdicts for config in v.configs})
    in_configs = f" in {counted(configs, 'configuration')}" if configs else ""
    rules, properties = len({v.rule for v in verdicts}), len({v.property for v in verdicts})
    return (
        f"{', '.join(parts)}"
        f"{f' ({cached} from the store)' if cached else ''}: "
        f"{counted(problems, 'problem')}, {counted(kernels, 'kernel')}{in_configs}, "
        f"{counted(rules, 'rule')}, {counted(properties, 'property')}, {seconds:.1f} s"
    )


def print_shares(console: Console, shares: Sequence[OutputShare], tau: float) -> None:
    """An error budget: per output its size, its sigma, and how much of sigma each rounding site is to blame for."""
    sites = [site for site in shares[0].by_site if any(share.by_site[site] for share in shares)] if shares else []
    heads = ("output", "rms", "sigma", *sites, "cond.")
    rows = [
        (share.output, f"{share.rms:.1e}", f"{share.sigma:.1e}", *_percentages(share, sites), f"{share.condition:.1f}")
        for share in shares
    ]
    # No table: its borders leave too little of a narrow terminal.
    for first, *others in (heads, *rows):
        console.print(f"{first:7}" + "".join(f"{text:>9}" for text in others), soft_wrap=True)
    console.print(
        f"A row fails when its rms error exceeds tau = {tau:g} times its sigma. Percentages: parts of sigma squared by "
        "rounding site.\ncond.: the largest sigma of a row in units of that row's own rounding; far above 1 the "
        "input is ill-conditioned, whoever computes it.",
        soft_wrap=True,
    )


def _percentages(share: OutputShare, sites: Sequence[str]) -> list[str]:
    total = sum(part**2 for part in share.by_site.values()) or 1.0
    return [f"{share.by_site[site] ** 2 / total:.0%}" for site in sites]


def _print_table(console: Console, verdicts: Sequence[Verdict]) -> None:
    """A line for each kernel and rule; the name of a kernel, which may be long, has a line of its own above its rules."""
    kernels = list(dict.fromkeys(v.kernel for v in verdicts))
    rules = list(dict.fromkeys([*NAMED, *(v.rule for v in verdicts)]))
    width = 2 + max((len(rule) for rule in rules), default=0)
    figures = "".join(f"{head:>9}" for head in ("held", "cases", "ratio", "time"))
    console.print(Text(f"{'':{width}}{figures}", style="bold"), soft_wrap=True)
    for kernel in kernels:
        of_kernel = [v for v in verdicts if v.kernel == kernel and v.status in _COUNTED]
        if of_kernel:
            console.print(Text(kernel, style="bold"), soft_wrap=True)
        for rule in rules:
            if row := [v for v in of_kernel if v.rule == rule]:
                console.print(_row(f"{f'  {rule}':{width}}", row), soft_wrap=True)


def _row(name: str, row: Sequence[Verdict]) -> Text:
    """The verdicts on one kernel and rule."""
    held = sum(v.status == "held" for v in row)
    ratios = [v.worst_ratio for v in row if v.worst_ratio is not None]
    figures = (
        str(sum(v.problems for v in row)),
        _short(_largest(ratios)) if ratios else "-",
        "stored" if all(v.cached for v in row) else f"{sum(v.seconds for v in row if not v.cached):.1f} s",
    )
    others = [(v.property, v.kind or v.status) for v in row if v.status != "held"]
    return Text.assemble(
        name,
        (f"{f'{held}/{len(row)}':>9}", "green" if held == len(row) else "red"),
        *(f"{figure:>9}" for figure in figures),
        "  " * bool(others),
        ", ".join(name if name == kind else f"{name}: {kind}" for name, kind in others),
    )


def _short(ratio: float) -> str:
    return f"{ratio:.3f}" if ratio < 1e4 else f"{ratio:.1e}"


def _largest(ratios: Iterable[float]) -> float:
    """The worst ratio; NaN, which compares with nothing, is worse than any."""
    found = list(ratios)
    return next((ratio for ratio in found if ratio != ratio), max(found))


def details(verdict: Verdict) -> list[str]:
    """A failure in full, line by line: its message, its place, the story if there is one, and how to see it again."""
    lines = list(verdict.notes)
    found = verdict.counterexample
    if found is None:
        return lines
    problem = f"smallest problem: {found.problem}"
    lines = [found.message, problem if found.config == "-" else f"{problem}   configuration: {found.config}"]
    if where := _where(found):
        lines.append(where)
    if found.stage is not None:
        lines.append(f"first stage at fault: {found.stage}")
    if found.story is not None:
        lines.append(found.story)
    return [*lines, *verdict.notes, f"replay: {replay_line(verdict.target, found.replay, verdict.arithmetic)}"]


def _where(found: Counterexample) -> str:
    words = [f"{name} {value}" for name in ("token", "head", "channel") if (value := getattr(found, name)) is not None]
    if found.tensor is not None and found.index is not None:
        words.insert(0, f"{found.tensor}[{', '.join(map(str, found.index))}]")
    if found.expected is not None or found.got is not None:
        words.append(f"expected {_number(found.expected)}, got {_number(found.got)}")
    return ", ".join(words)


def _number(value: float | None) -> str:
    return "nothing" if value is None else f"{value:.9g}"


def notes(verdicts: Sequence[Verdict]) -> list[str]:
    """Cases that could not be judged, that a kernel declined, or that do not apply: once per reason, with the number of cells."""
    found: dict[tuple[str, str], int] = {}
    for verdict in verdicts:
        for note in verdict.notes if verdict.status not in BAD else ():
            why = reason(verdict, note)
            found[why] = found.get(why, 0) + 1
    return [f"{what} in {counted(count, 'cell')}: {text}" for (what, text), count in found.items()]


def reason(verdict: Verdict, note: str) -> tuple[str, str]:
    """(outcome, reason) of a note that counts cases."""
    for written, what in _OUTCOMES.items():
        if text := note.partition(f" {written}: ")[2]:
            return what, text
    return ("does not apply" if verdict.status == "inapplicable" else "not judged"), note
