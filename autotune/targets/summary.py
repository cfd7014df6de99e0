"""The results of a run over a target's kernels, for people and for programs."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...results.schema.target_table import TargetEntry, TargetTable
from ...verify.verdicts.plural import counted
from .tune import TargetOutcome, as_config

SCHEMA = 1


def lines(outcome: TargetOutcome) -> list[str]:
    entries = outcome.table.entries
    rejected = ", ".join(f"{count} {reason}" for reason, count in outcome.rejected.items())
    ran = sum(entry.gate == "compiled" for entry in entries)
    found = [
        f"compiled: {counted(outcome.ran, 'kernel')}, {outcome.cached} known before; rejected: {rejected or 'none'}",
        f"gate (as compiled): {ran} of {counted(len(entries), 'entry')} passed, "
        f"{counted(len(outcome.refused), 'configuration')} refused",
    ]
    found += [f"  {_chosen(entry)}" for entry in entries]
    if entries:
        found.append(f"table: {outcome.path} (compiled and ranked by resources; nothing was timed)")
    if outcome.left:
        found.append(f"the budget left {counted(outcome.left, 'configuration')}: the same command goes on from there")
    alike: dict[tuple[str, str], list[str]] = {}
    for one in outcome.refused:
        alike.setdefault((one.kernel, one.rule or one.detail), []).append(one.detail)
    found += [
        f"refused {counted(len(reasons), 'configuration')} of {kernel}: {reasons[0]}"
        for (kernel, _), reasons in alike.items()
    ]
    untold = dict.fromkeys(entry.detail for entry in entries if entry.gate == "none")
    found += [f"not judged: {detail}" for detail in untold]
    return found + [f"no configuration: {name}" for name in dict.fromkeys(outcome.without)]


def of_table(table: TargetTable) -> list[str]:
    """What a table holds, and why: each entry with its judgement, and what became of everything that its kernel offers."""
    whose = f" of {table.package}" if table.package else ""
    found = [
        f"{table.target}{whose} on {table.gpu}, by Triton {table.triton}: compiled and ranked by resources; nothing was timed",
        f"calls: {', '.join(table.calls)}",
    ]
    for entry in table.entries:
        judged = "passed the gate as compiled" if entry.gate == "compiled" else "not judged as compiled"
        offered = ", ".join(
            f"{count} {outcome}" for outcome, count in Counter(x.outcome for x in entry.offered).items()
        )
        found += [
            _chosen(entry), f"  {judged}{f': {entry.detail}' if entry.detail else ''}",
            f"  of {counted(len(entry.offered), 'configuration')}: {offered}",
        ]  # fmt: skip
    return found


def _chosen(entry: TargetEntry) -> str:
    """A kernel and the configuration that was chosen for it."""
    blocks = " ".join(f"{name}={value}" for name, value in entry.config["kwargs"].items())
    size = f"{counted(entry.config['num_warps'], 'warp')}, {counted(entry.config['num_stages'], 'stage')}"
    return f"{entry.kernel}: {blocks + ', ' if blocks else ''}{size} ({counted(len(entry.keys), 'key')})"


def document(outcome: TargetOutcome) -> dict[str, Any]:
    """The run as JSON values. Fields may be added; none changes its meaning within a schema."""
    return {
        "schema": SCHEMA,
        "target": outcome.table.target,
        "gpu": outcome.table.gpu,
        "path": str(outcome.path),
        "compile": {"ran": outcome.ran, "cached": outcome.cached, "left": outcome.left},
        "rejected": dict(outcome.rejected),
        "entries": len(outcome.table.entries),
        "refused": [
            {"kernel": one.kernel, "config": as_config(one.choice), "reason": one.detail} for one in outcome.refused
        ],
        "failed": list(outcome.without),
    }
