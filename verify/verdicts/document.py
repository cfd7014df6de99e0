"""The JSON document of a run, which other programs rely on: schema, environment, verdicts, summary."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, get_args

from ...results.schema.strict import parse
from ...results.schema.text_files import read_text
from .judgement import Status, Verdict
from .strict import number, typed

SCHEMA = 1
COVERED, SHORT = "covered", "coverage is short"
"""Entries of an environment: what the run covered, in lines, and whether its profile requires more."""
_CHECKOUT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """A run as its JSON document holds it. environment: of the machine that judged. seconds: of the whole run."""

    verdicts: Sequence[Verdict]
    environment: Mapping[str, str]
    seconds: float

    @classmethod
    def of(cls, verdicts: Sequence[Verdict], device: str, seconds: float) -> Document:
        """A run on this machine, just made."""
        return cls(verdicts=tuple(verdicts), environment=environment(device), seconds=seconds)

    @property
    def covered(self) -> list[str]:
        """The coverage of the run in words, a line each; nothing where the document does not say."""
        return self.environment.get(COVERED, "").splitlines()

    def exit_code(self, *, allow_unsupported: bool = False) -> int:
        """The exit code of its verdicts, or 3 where all hold and the run covered less than its profile requires."""
        code = exit_code(self.verdicts, allow_unsupported=allow_unsupported)
        return 3 if SHORT in self.environment and not code and not allow_unsupported else code

    def only(self, prop: str) -> Document:
        """The part of it that is about one property."""
        return replace(self, verdicts=[verdict for verdict in self.verdicts if verdict.property == prop])

    def to_json(self) -> dict[str, Any]:
        """The whole document as JSON values. Fields may be added; none changes its meaning within a schema."""
        return {
            "schema": SCHEMA,
            "environment": dict(self.environment),
            "verdicts": [verdict.to_json() for verdict in self.verdicts],
            "summary": summary(self.verdicts, self.seconds),
        }


def environment(device: str) -> dict[str, str]:
    """Where verdicts come from: deltaproof and its commit, python, torch, triton, numpy, platform, device. Imports none."""
    return {
        "deltaproof": installed_version("deltaproof"),
        "commit": _commit(),
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
    """Counts by status. An error counts as failed, and is also counted alone; a verdict that does not apply is not counted."""
    count = {status: sum(v.status == status for v in verdicts) for status in get_args(Status)}
    return {
        "held": count["held"],
        "failed": count["failed"] + count["error"],
        "unsupported": count["unsupported"],
        "inapplicable": count["inapplicable"],
        "errors": count["error"],
        "seconds": round(seconds, 3),
    }


def document(verdicts: Sequence[Verdict], device: str, seconds: float) -> dict[str, Any]:
    """A run on this machine as JSON values."""
    return Document.of(verdicts, device, seconds).to_json()


def _commit() -> str:
    """The commit of the checkout, with a mark where files differ from it; "none" outside of one."""
    if not (_CHECKOUT / ".git").exists():
        return "none"
    try:
        command = ["git", "-C", str(_CHECKOUT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def read_document(path: Path) -> Document:
    """A document. Raises ValueError that names the fault of the file."""
    content = parse(read_text(path, piped=True), str(path))
    if not isinstance(content, Mapping) or content.get("schema") != SCHEMA:
        found = content.get("schema") if isinstance(content, Mapping) else None
        raise ValueError(f"{path} is not a report of schema {SCHEMA} (its schema is {found!r})")
    try:
        return Document(
            verdicts=[Verdict.from_json(record) for record in typed("verdicts", content.get("verdicts"), list)],
            environment=typed("environment", content.get("environment"), dict[str, str]),
            seconds=number("seconds", typed("summary", content.get("summary"), dict).get("seconds")),
        )
    except ValueError as error:
        raise ValueError(f"{path} is not a report of verdicts: {error}") from None


def exit_code(verdicts: Sequence[Verdict], *, allow_unsupported: bool = False) -> int:
    """0 everything holds, 1 something failed (or broke), 2 there was nothing to judge, 3 something could not be judged."""
    found = {verdict.status for verdict in verdicts}
    if found & {"failed", "error"}:
        return 1
    if "unsupported" in found and not allow_unsupported:
        return 3
    return 0 if found & {"held", "unsupported"} else 2
