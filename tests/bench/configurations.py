"""Which of our launch configurations are timed and checked: the default, what the tables hold, and some by hand."""

from __future__ import annotations

import json
import os
from pathlib import Path

from deltaproof import results
from deltaproof.results.schema.default import default_config

OPS = {"forward": "chunk_fwd", "train": "chunk_train"}
"""What a call is named here -> the op of the tables."""
_SCORES = {32: ("32x1x1", "64x2x1", "32x2x1"), 64: ("128x8x1", "32x2x1", "64x4x1")}
_STATES = {32: ("64x4x2", "32x4x2", "16x4x2"), 64: ("32x4x2", "32x4x3", "64x4x2")}
BY_HAND = {
    "forward": tuple(
        f"c{chunk},variant=packed,scores={scores},states={states}"
        for chunk in (32, 64)
        for scores, states in zip(_SCORES[chunk], _STATES[chunk], strict=True)
    ),
    "train": (),
}
"""Those whose instruction counts lie close together: a clock tells them apart."""


def configurations(op: str, rule: str, dtype: str, D: int, gpu: str | None) -> list[str]:
    """Tokens, the default first, then by how many sizes of call a table serves them to."""
    found = [default_config(OPS[op], dtype, D)]
    served: dict[str, int] = {}
    for entry in _entries(gpu):
        if (entry["op"], entry["rule"], entry["dtype"], entry["K"], entry["V"]) == (OPS[op], rule, dtype, D, D):
            served[entry["config"]] = served.get(entry["config"], 0) + 1
    found += sorted(served, key=lambda token: -served[token])
    return list(dict.fromkeys([*found, *BY_HAND[op]]))


def _entries(gpu: str | None) -> list[dict]:
    if gpu is None:
        return []
    folders = [os.environ.get("DELTAPROOF_TABLES", ""), str(Path(results.__file__).parent / "tables")]
    paths = [Path(folder) / f"{gpu}.json" for folder in folders if folder]
    return [entry for path in paths if path.exists() for entry in json.loads(path.read_text())["entries"]]
