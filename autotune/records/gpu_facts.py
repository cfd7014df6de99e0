"""`make gpus`: write results/gpus.json, the limits that look-ups need, from specs/gpus.toml."""

from __future__ import annotations

import json
from pathlib import Path

from ...results.files.atomic import replace
from ...results.schema import gpus as limits
from ...specs.gpus import shipped

PATH = Path(limits.__file__).resolve().parents[1] / "gpus.json"


def document() -> str:
    """The text of `results/gpus.json`: one GPU a line, sorted by slug."""
    rows = [
        {
            "slug": slug,
            "arch": gpu.arch.name,
            "sm_count": gpu.sm_count,
            "memory_gib": gpu.memory_gib,
            "shared_per_block": gpu.arch.shared_per_block,
            "registers_per_block": gpu.arch.registers_per_block,
            "aliases": list(gpu.aliases),
        }
        for slug, gpu in shipped().items()
    ]
    lines = ",\n".join(map(json.dumps, rows))
    return f'{{\n"schema": {limits.SCHEMA},\n"gpus": [\n{lines}\n]\n}}\n'


if __name__ == "__main__":
    replace(PATH, document())
