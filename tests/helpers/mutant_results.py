"""Results of planted faults that nobody planted."""

from __future__ import annotations

from typing import Any

from deltaproof.verify.mutants import judge


def result(status: judge.Status, **changes: Any) -> judge.MutantResult:
    values = {"id": "x", "operator": "mask", "stage": "tokens", "where": "w", "seconds": 1.0, "asked": 1} | changes
    return judge.MutantResult(status=status, **values)
