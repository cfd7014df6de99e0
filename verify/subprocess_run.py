"""`verify all` in a process of its own, for callers that must import neither torch nor a kernel."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from .report.text import alike, coverage, details, headline
from .verdicts.document import Document, read_document


def judge(
    target: str,
    *,
    rules: Sequence[str] = (),
    properties: Sequence[str] = (),
    kernel: str | None = None,
    profile: str = "quick",
    device: str = "auto",
    seed: int = 0,
) -> Document | str:
    """The verdicts on a target, or the line that says why there are none. Raises KeyboardInterrupt if interrupted."""
    if line := _unusable(target, rules, properties, kernel, profile, device, seed):
        return line
    with tempfile.TemporaryDirectory(prefix="deltaproof-") as folder:
        path = Path(folder) / "report.json"
        words = ["all", "--target", target, "--profile", profile, "--device", device, "--seed", str(seed)]
        words += ["--json", str(path), *(["--kernel", kernel] if kernel else [])]
        for option, names in (("--rule", rules), ("--property", properties)):
            words += [word for name in names for word in (option, name)]
        # The caller's modules, wherever it found them.
        places = [place or os.getcwd() for place in sys.path]
        done = subprocess.run(
            [sys.executable, "-m", f"{__package__}", *words],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(places)},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode == 130:
            raise KeyboardInterrupt
        if not path.is_file():
            lines = done.stderr.strip().splitlines() or [f"verify ended with code {done.returncode} and said nothing"]
            return lines[-1] if done.returncode == 2 else "\n".join(lines[-20:])
        return read_document(path)


def _unusable(
    target: object, rules: object, properties: object, kernel: object, profile: object, device: object, seed: object
) -> str | None:
    """The fault of arguments that no command line could hold, or that can be refused without one; None if there is none."""
    from ..specs.rule import NAMED
    from .cases.profiles import PROFILES
    from .cli.options import LARGEST_SEED, Device
    from .properties import NAMES

    for name, word in (("target", target), ("kernel", kernel if kernel is not None else "*")):
        if not isinstance(word, str) or not word or not word.isprintable():
            return f"{name} is {word!a:.60}; accepted: a name"
    for name, words, known in (
        ("rule", rules, NAMED), ("properties", properties, NAMES), ("profile", [profile], PROFILES), ("device", [device], Device)
    ):  # fmt: skip
        if not isinstance(words, list | tuple):
            return f"{name} is {words!a:.60}; accepted: names"
        for word in words:
            if not isinstance(word, str) or word not in list(known):
                return f"{name} is {word!a:.60}; accepted: {', '.join(known)}"
    if type(seed) is not int or not 0 <= seed <= LARGEST_SEED:
        return f"seed is {seed!a:.60}; accepted: from 0 to {LARGEST_SEED}"
    return None


def failures(document: Document) -> str:
    """The failures in full; if nothing could be judged, the reasons; else ""."""
    lines = []
    for first, *others in alike(document.verdicts):
        lines += [headline(first), *(f"  {line}" for line in details(first))]
        if others:
            lines.append(f"  likewise on {', '.join(verdict.rule for verdict in others)}")
    if not lines and not any(verdict.status == "held" for verdict in document.verdicts if verdict.kernel != "oracle"):
        notes = dict.fromkeys(note for verdict in document.verdicts for note in verdict.notes)
        return "nothing could be judged" + "".join(f"\n  {note}" for note in notes)
    return "\n".join([*lines, coverage(document.verdicts, document.seconds)]) if lines else ""
