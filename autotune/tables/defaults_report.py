"""The judgements of the safe defaults, by version of Triton: one JSON document for each, and a page over all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.version import Version

from ...results.files.atomic import replace


def write_defaults(folder: Path, document: Mapping[str, Any]) -> None:
    """Add a document to those of its Triton, and write the page anew. Cells that it does not have stay.

    Raises OSError.
    """
    path = folder / f"triton-{document['triton']}.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"cells": [], "ptxas": {}}
    cells = {_subject(cell): cell for cell in (*before["cells"], *document["cells"])}
    merged = {
        **document,
        "ptxas": dict(sorted({**before["ptxas"], **document["ptxas"]}.items())),
        "cells": [cells[subject] for subject in sorted(cells)],
    }
    replace(path, json.dumps(merged, indent=1) + "\n")
    found = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("triton-*.json")]
    replace(folder / "README.md", page(sorted(found, key=lambda one: Version(one["triton"]))))


def page(documents: Sequence[Mapping[str, Any]]) -> str:
    """Counts by version and architecture, then the faults, then the configurations."""
    lines = [
        "# The safe default, as compiled",
        "",
        "Written by `autotune defaults --out results/defaults`, once under each Triton. A cell is an op, a rule, an element type",
        "and a head dimension. Right: every program fits, and its machine code has no `register-unwritten`. Run: its programs",
        "keep every rule of `docs/compiled-code.md` and the error budget, under three schedules.",
        "",
        "| Triton | ptxas | architecture | cells | programs | no fault in machine code | run | passed when run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    faults: list[str] = []
    for document in documents:
        for arch in dict.fromkeys(cell["arch"] for cell in document["cells"]):
            cells = [cell for cell in document["cells"] if cell["arch"] == arch]
            ran = [cell for cell in cells if cell["ran"] is not None]
            counts = (
                len(cells), sum(cell["programs"] for cell in cells), sum(not cell["faults"] for cell in cells), len(ran),
                sum(cell["ran"] for cell in ran),
            )  # fmt: skip
            start = f"| {document['triton']} | {document['ptxas'].get(arch) or '-'} | {arch} | "
            lines.append(start + " | ".join(map(str, counts)) + " |")
            faults += [
                f"- Triton {document['triton']}, {_name(cell)}: {fault}" for cell in cells for fault in cell["faults"]
            ]
    configs: dict[str, set[str]] = {}
    for cell in (cell for document in documents for cell in document["cells"]):
        configs.setdefault(cell["config"], set()).add(f"{cell['op']} {cell['dtype']} K={cell['K']}")
    return "\n".join(
        [
            *lines, "", "Faults:" if faults else "No fault was found.", *([""] if faults else []), *faults, "",
            *(f"- `{config}`: {', '.join(sorted(calls))}" for config, calls in sorted(configs.items())), "",
        ]
    )  # fmt: skip


def _name(cell: Mapping[str, Any]) -> str:
    return f"{cell['arch']} {cell['op']} {cell['rule']} {cell['dtype']} K={cell['K']} `{cell['config']}`"


def _subject(cell: Mapping[str, Any]) -> tuple[Any, ...]:
    return tuple(cell[name] for name in ("arch", "op", "rule", "dtype", "K"))
