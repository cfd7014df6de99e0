"""The report of a GPU session, from its rows: what was run, what was right, how long it took. Standard library only."""

from __future__ import annotations

import json
import statistics
from collections import defaultdict
from pathlib import Path
from typing import Any

import rows

OURS, PEER, BESIDE = "deltaproof/", "fla/", " beside"
RIGHT = 0.03
"""Relative error of the outputs, in 16 bits, above which a call computes something else, and how fast is no matter."""


def summary(folder: Path, found: dict[str, Any], state: dict[str, Any]) -> str:
    """Markdown: the machine, every step, then what the steps say."""
    lines = [", ".join(f"{name} {value}" for name, value in found.items() if value is not None), ""]
    lines += ["| step | state | seconds |", "|---|---|---:|"]
    lines += [f"| {name} | {entry['state']} | {entry['seconds']:.0f} |" for name, entry in state.items()]
    lines += compiled(rows.read(folder / "compiled.jsonl"))
    lines += checked(rows.read(folder / "checks.jsonl"))
    lines += timed(rows.read(folder / "times.jsonl"))
    landscape = rows.read(folder / "landscape.jsonl")
    if landscape:
        problems = dict.fromkeys(row["work"] for row in landscape)
        lines += ["", f"Landscape: {len(landscape)} configurations of {', '.join(problems)}."]
    report = folder / "verify.json"
    if report.exists():
        counts = json.loads(report.read_text())["summary"]
        lines += ["", "verify: " + ", ".join(f"{value} {name}" for name, value in counts.items() if name != "seconds")]
    return "\n".join(lines) + "\n"


def compiled(found: list[rows.Row]) -> list[str]:
    if not found:
        return []
    failed = [row for row in found if row["failure"]]
    lines = ["", f"Compiled: {len(found)} kernels, {len(failed)} refused."]
    reasons: dict[str, list[str]] = defaultdict(list)
    for row in failed:
        reasons[row["failure"][:120]].append(row["kernel"])
    return lines + [f"- {len(names)}, e.g. {names[0][:90]}: {reason}" for reason, names in list(reasons.items())[:8]]


def checked(found: list[rows.Row]) -> list[str]:
    if not found:
        return []
    lines = ["", "| checked against fp64 | worst errors | same bits |", "|---|---|---:|"]
    for row in found:
        if row["unable"]:
            lines.append(f"| {row['op']} {row['rule']} {row['config']} | {row['unable'][:100]} | - |")
            continue
        errors = ", ".join(f"{name} {error:.1e}" for name, error in row["worst"].items())
        lines.append(f"| {row['op']} {row['rule']} {row['config']} | {errors} | {row['equal']}/{row['repeats']} |")
    return lines


def timed(found: list[rows.Row]) -> list[str]:
    """A row per piece of work: ours at its best and as it is by default, the peer at its best, and how they compare."""
    samples: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in found:
        if row["kind"] == "sample":
            samples[row["work"]][row["name"]].append(row["milliseconds"])
    calls = {(row["work"], row["name"]): row for row in found if row["kind"] == "call"}
    if not calls:
        return []
    lines = []
    for row in found:
        if row["kind"] == "copy":
            rate = row["bytes"] / min(row["milliseconds"]) / 1e6
            lines += ["", f"A copy moves {rate:.0f} GB/s, reads and writes together."]
    works = dict.fromkeys(row["work"] for row in calls.values())
    lines += ["", f"Shapes run: {', '.join(works)}.", ""]
    lines += [
        "| work | first of ours, ms | best of ours, ms | which | error | peer, ms | which | error | times faster |"
    ]
    lines += ["|---|---:|---:|---|---:|---:|---|---:|---:|"]
    for work in works:
        medians = {
            name: statistics.median(values) for name, values in samples[work].items() if is_right(calls[work, name])
        }
        ours = [name for name in medians if name.startswith(OURS)]
        beside = [name for name in ours if name.endswith(BESIDE)]
        peers = [name for name in medians if name.startswith(PEER)]
        first = next((name for name in ours if not name.endswith(BESIDE)), None)
        best = min(ours, key=lambda name: medians[name], default=None)
        peer = min(peers, key=lambda name: medians[name], default=None)
        cells = [work, f"{medians[first]:.3f}" if first else "-"]
        for name in (best, peer):
            cells += (
                ["-"] * 3
                if name is None
                else [f"{medians[name]:.3f}", name.partition("/")[2], _error(calls[work, name])]
            )
        rival = min(beside or ours, key=lambda name: medians[name], default=None)
        cells.append(f"{medians[peer] / medians[rival]:.2f}" if peer and rival else "-")
        lines.append("| " + " | ".join(cells) + " |")
    unable: dict[str, list[str]] = defaultdict(list)
    for (work, name), row in calls.items():
        if row["unable"]:
            unable[f"{name}: {row['unable'][:160]}"].append(work)
    wrong = [(work, name) for (work, name), row in calls.items() if not row["unable"] and not is_right(row)]
    lines += (
        ["", *(f"- wrong on {work}: {name}, error {calls[work, name]['error']}" for work, name in wrong)]
        if wrong
        else []
    )
    missed = [f"- not timed, {len(some)} of them, e.g. {some[0]}: {why}" for why, some in unable.items()]
    return [*lines, "", *missed]


def is_right(row: rows.Row) -> bool:
    """Whether a call's outputs were finite and near the reference."""
    return row["error"] is not None and row["error"] < RIGHT


def _error(row: rows.Row) -> str:
    return f"{row['error']:.1e}"
