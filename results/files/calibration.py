"""The threshold of the error budgets and the figures it follows from: `calibration.json`, by `verify calibrate`."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

from .atomic import replace

SCHEMA = 1
PATH = Path(__file__).parents[1] / "calibration.json"


def implied_tau(largest: float, p9999: float) -> float:
    """The rule: the larger of twice the largest ratio and four times the 99.99th percentile over known-good rows."""
    return max(2 * largest, 4 * p9999)


@lru_cache(maxsize=1)
def tau() -> float:
    """The one threshold, in multiples of sigma. Raises ValueError if the figures are missing or of another schema."""
    return float(read(PATH)["tau"])


def read(path: Path) -> dict[str, Any]:
    """A calibration record. Raises ValueError that says how to make one."""
    try:
        record = json.loads(path.read_text())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"no calibration in {path} ({error}); run `verify calibrate`") from None
    if not isinstance(record, dict) or record.get("schema") != SCHEMA:
        found = record.get("schema") if isinstance(record, dict) else record
        raise ValueError(f"{path} has schema {found!a:.60}, expected {SCHEMA}; run `verify calibrate`")
    if type(record.get("tau")) not in (int, float) or not 0 < record["tau"] <= 1e6:
        raise ValueError(f"{path} has tau {record.get('tau')!a:.60}, expected a number; run `verify calibrate`")
    return record


def write(record: dict[str, Any], path: Path = PATH) -> None:
    """Replace the record atomically."""
    replace(path, json.dumps({"schema": SCHEMA, **record}, indent=2) + "\n")
