"""The JSON document of a run, which other programs rely on: schema, environment, verdicts, summary."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from .verdict import Verdict

SCHEMA = 1


def environment(device: str) -> dict[str, str]:
    """Where verdicts come from: python, torch, triton, numpy, platform, device. Imports none of them."""
    return {
        "python": platform.python_version(),
        **{name: installed_version(name) for name in ("torch", "triton", "numpy")},
        "platform": platform.platform(),
        "device": device,
    }


def installed_version(name: str) -> str:
    """Version of an installed distribution, "absent" if there is none."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "absent"


def summary(verdicts: Sequence[Verdict], seconds: float) -> dict[str, float]:
    """Counts by status. An error counts as failed, and is also counted alone."""
    count = {status: sum(v.status == status for v in verdicts) for status in ("held", "failed", "unsupported", "error")}
    return {
        "held": count["held"],
        "failed": count["failed"] + count["error"],
        "unsupported": count["unsupported"],
        "errors": count["error"],
        "seconds": round(seconds, 3),
    }


def document(verdicts: Sequence[Verdict], device: str, seconds: float) -> dict[str, Any]:
    """The whole document as JSON values. Fields may be added; none changes its meaning within a schema."""
    return {
        "schema": SCHEMA,
        "environment": environment(device),
        "verdicts": [verdict.to_json() for verdict in verdicts],
        "summary": summary(verdicts, seconds),
    }


def read_document(path: Path) -> list[Verdict]:
    """The verdicts of a document. Raises ValueError that says what is wrong with the file."""
    try:
        content = json.loads(path.read_text())
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read a report from {path}: {error}") from None
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, Mapping) else None
        raise ValueError(f"{path} is not a report of schema {SCHEMA} (its schema is {found!r})")
    return [Verdict.from_json(record) for record in content["verdicts"]]


def exit_code(verdicts: Sequence[Verdict]) -> int:
    """0 everything judged held, 1 something failed (or broke), 2 there was nothing to judge."""
    if any(verdict.status in ("failed", "error") for verdict in verdicts):
        return 1
    return 0 if any(verdict.status == "held" for verdict in verdicts) else 2
