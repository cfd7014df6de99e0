"""The results of a run over FLA's kernels, for people and for programs."""

from __future__ import annotations

from typing import Any

from ...verify.verdicts.plural import counted
from .tune import FlaOutcome, refusal

SCHEMA = 1


def lines(outcome: FlaOutcome) -> list[str]:
    rejected = ", ".join(f"{count} {reason}" for reason, count in outcome.rejected.items() if count)
    found = [
        f"compiled: {counted(outcome.ran, 'kernel')}, {outcome.cached} known before; rejected: {rejected or 'none'}",
        f"gate (interpreter): {outcome.checked} block sizes of kernels checked, {len(outcome.refused)} failed; the "
        f"{outcome.owed} chosen are not verified on a device",
        f"{outcome.kernels - len(outcome.failed)} of {outcome.kernels} kernels have a configuration, under "
        f"{len(outcome.entries)} keys, in {outcome.path} (compiled and ranked by resources; nothing was timed)",
    ]
    if outcome.left:
        found.append(f"the budget left {counted(outcome.left, 'configuration')}: the same command goes on from there")
    found += [f"failed the gate: {one.kernel} {dict(one.kwargs)}: {one.reason}" for one in outcome.refused]
    return found + [f"no configuration: {name}" for name in outcome.failed]


def document(gpu: str, outcome: FlaOutcome) -> dict[str, Any]:
    """The run as JSON values. Fields may be added; none changes its meaning within a schema.

    gate: how many block sizes were checked in the interpreter, how many failed, and for how many of the chosen ones the
    on-device gate is pending.
    """
    return {
        "schema": SCHEMA,
        "gpu": gpu,
        "path": str(outcome.path),
        "compile": {"ran": outcome.ran, "cached": outcome.cached, "left": outcome.left},
        "rejected": outcome.rejected,
        "gate": {
            "where": "interpreter",
            "checked": outcome.checked,
            "failed": len(outcome.refused),
            "owed": outcome.owed,
            "refused": [refusal(one) for one in outcome.refused],
        },
        "kernels": outcome.kernels,
        "entries": len(outcome.entries),
        "failed": outcome.failed,
    }
