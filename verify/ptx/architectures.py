"""The architectures whose programs can be run here."""

from __future__ import annotations

import re

ARCHITECTURES = (80, 86, 89, 90)


def architecture(name: str) -> int:
    """The number of "sm_90" or "90". Raises ValueError, whose one line lists the names that are accepted."""
    found = re.fullmatch(r"(?:sm_)?(\d+)a?", name)
    if found is None or int(found[1]) not in ARCHITECTURES:
        raise ValueError(f"device {name!r}; accepted: sm_80, sm_86, sm_89 and sm_90")
    return int(found[1])
