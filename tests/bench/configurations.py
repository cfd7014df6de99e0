"""Which of our launch configurations are timed and checked: every variant's default, what the tables hold, and some by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

from deltaproof import results

OPS = {"forward": "chunk_fwd", "train": "chunk_train"}
"""What a call is named here -> the op of the tables."""
DEFAULTS = {"forward": ("c64", "c64,variant=packed", "c64,variant=fused"), "train": ("c64",)}
BY_HAND = {
    ("forward", "gdn2"): ("c32,variant=packed,scores=64x4x1,states=128x8x1",),
    ("forward", "kda"): ("c32,variant=packed,scores=64x4x1,states=128x8x1",),
    ("forward", "gdn"): ("c64,variant=packed,scores=64x4x1,states=32x4x2",),
}
"""Those that a count of instructions puts first, and for gdn the neighbour, without a pipeline, of one that may race."""


def configurations(op: str, rule: str, dtype: str, D: int, gpu: str | None) -> list[str]:
    """Tokens, the defaults first, then by how many sizes of call a table serves them to."""
    found = list(DEFAULTS[op])
    served: dict[str, int] = {}
    for entry in _entries(gpu):
        if (entry["op"], entry["rule"], entry["dtype"], entry["K"], entry["V"]) == (OPS[op], rule, dtype, D, D):
            served[entry["config"]] = served.get(entry["config"], 0) + 1
    found += sorted(served, key=lambda token: -served[token])
    return list(dict.fromkeys([*found, *BY_HAND.get((op, rule), ())]))


def _entries(gpu: str | None) -> list[dict]:
    if gpu is None:
        return []
    folders = [os.environ.get("DELTAPROOF_TABLES", ""), str(Path(results.__file__).parent / "tables")]
    paths = [Path(folder) / f"{gpu}.json" for folder in folders if folder]
    return [entry for path in paths if path.exists() for entry in json.loads(path.read_text())["entries"]]
