"""The digest of a program's text."""

from __future__ import annotations

import hashlib
import re

_COMMENT = re.compile(r"//.*")
_DEBUG = re.compile(r"(?m)^\s*\.section\s+\.debug")


def program_digest(assembly: str) -> str:
    """Names a program by its assembly: comments and line tables, which change with a file's place, do not count."""
    lines = (_COMMENT.sub("", line).strip() for line in _DEBUG.split(assembly)[0].splitlines())
    text = "\n".join(line for line in lines if line and not line.startswith((".loc", ".file")))
    return hashlib.sha256(text.encode()).hexdigest()[:32]
