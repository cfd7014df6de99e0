"""What a run over FLA's kernels came to, for people and for programs."""

from __future__ import annotations

from typing import Any

from .target import Outcome

SCHEMA = 1


def lines(outcome: Outcome) -> list[str]:
    rejected = ", ".join(f"{count} {reason}" for reason, count in outcome.rejected.items() if count)
    found = [
        f"compiled: {outcome.ran} kernels, {outcome.cached} known before; rejected: {rejected or 'none'}",
        f"{outcome.kernels - len(outcome.failed)} of {outcome.kernels} kernels have a configuration, under "
        f"{len(outcome.entries)} keys, in {outcome.path} (compiled and ranked by resources; nothing was timed)",
    ]
    if outcome.left:
        found.append(f"the budget left {outcome.left} configurations: the same command goes on from there")
    return found + [f"no configuration: {name}" for name in outcome.failed]


def document(gpu: str, outcome: Outcome) -> dict[str, Any]:
    """The run as JSON values. Fields may be added; none changes its meaning within a schema."""
    return {
        "schema": SCHEMA,
        "gpu": gpu,
        "path": str(outcome.path),
        "compile": {"ran": outcome.ran, "cached": outcome.cached, "left": outcome.left},
        "rejected": outcome.rejected,
        "kernels": outcome.kernels,
        "entries": len(outcome.entries),
        "failed": outcome.failed,
    }
