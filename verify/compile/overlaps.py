"""A lint of compiled code: asynchronous products that are still running when their operands may be overwritten.

Triton's pipeliner can give one buffer in shared memory to a tile that two asynchronous products read. Where the loop waits with
`wgmma.wait_group N` and N > 0, up to N groups of products are still reading when the next `cp.async` or store reaches that
buffer (triton pull request 8554 describes the class). The result then depends on timing, and no interpreter sees it.
"""

from __future__ import annotations

import re

_WAIT = re.compile(r"\bwgmma\.wait_group\.sync\.aligned\s+(\d+)\s*;")
_OVERWRITES = re.compile(r"\bcp\.async\.c[ag]\b"), re.compile(r"\bst\.shared\b"), re.compile(r"\bstmatrix\b")


def products_in_flight(ptx: str) -> str:
    """One line that names the hazard of a PTX text, or "" where there is none.

    First and coarse: any wait that leaves groups in flight in code that also writes to shared memory counts.
    """
    running = [int(count) for count in _WAIT.findall(ptx) if int(count)]
    writes = [found.group() for pattern in _OVERWRITES if (found := pattern.search(ptx))]
    if not running or not writes:
        return ""
    return f"wgmma.wait_group {max(running)} leaves products in flight while {writes[0]} may overwrite what they read"
