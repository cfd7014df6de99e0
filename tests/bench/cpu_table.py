"""The table of a side-by-side run on a CPU: what was measured, how, and what cannot be measured there."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from typing import Any

from summary import OURS, Document, reasons

NOT_ON_A_CPU = (
    "torch sees no CUDA device: our Triton variants (staged, split, packed, fused, decode) and the Triton kernels of",
    "flash-linear-attention were not timed, and neither memory nor the share of the copy rate was measured.",
    "On a machine with a GPU the same command does that.",
)


def cpu_table(documents: Sequence[Document]) -> str:
    """Markdown: the machine and the protocol, a row per piece of work, geometric means, and what was not measured."""
    around = documents[0]["environment"]
    names = list(dict.fromkeys(entry["name"] for document in documents for entry in document["contestants"]))
    ours = next(name for name in names if name.startswith(f"{OURS}/"))
    peers = [name for name in names if name != ours]
    rounds = {len(entry["samples_ms"]) for document in documents for entry in document["contestants"] if _timed(entry)}
    versions = ", ".join(f"{name} {around[name] or 'not installed'}" for name in ("python", "torch", "fla-core"))
    count = " or ".join(map(str, sorted(rounds)))
    lines = [
        f"Measured on: {around['device']}; {versions}.",
        "",
        f"Milliseconds are minima of {count} samples of {around['clock']}, after two calls that do",
        "not count; contestants take turns, a sample each per round. All get the same tensors, normalise q and k, and run in one",
        "process. `forward` is without gradients; `train` is forward and backward, to all inputs. Errors are of the outputs,",
        "relative, against fp64. `slower`: times the minimum of ours. The json files beside have every sample.",
        "",
        "| work | " + " | ".join([f"{ours}, ms | error", *(f"{name}, ms | error | slower" for name in peers)]) + " |",
        "|---|" + "---:|" * (2 + 3 * len(peers)),
    ]
    for document in documents:
        cells = [document["work"], *_cells(_entry(document, ours))]
        for name in peers:
            factor = _slower(document, ours, name)
            cells += [*_cells(_entry(document, name)), "-" if factor is None else f"{factor:.3g}"]
        lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "Times slower than ours, geometric means:", "", *_means(documents, ours, peers)]
    return (
        "\n".join([*lines, "", "Not measured here:", "", "- " + "\n  ".join(NOT_ON_A_CPU), *reasons(documents)]) + "\n"
    )


def _timed(entry: dict[str, Any]) -> bool:
    """Whether there are samples, and of answers that are finite."""
    return bool(entry.get("samples_ms")) and entry.get("error") is not None


def _entry(document: Document, name: str) -> dict[str, Any]:
    return next((entry for entry in document["contestants"] if entry["name"] == name), {})


def _cells(entry: dict[str, Any]) -> tuple[str, str]:
    return (f"{min(entry['samples_ms']):.1f}", f"{entry['error']:.1e}") if _timed(entry) else ("-", "-")


def _slower(document: Document, ours: str, name: str) -> float | None:
    mine, other = _entry(document, ours), _entry(document, name)
    return min(other["samples_ms"]) / min(mine["samples_ms"]) if _timed(mine) and _timed(other) else None


def _means(documents: Sequence[Document], ours: str, peers: Sequence[str]) -> list[str]:
    found = []
    for op, rule in dict.fromkeys((document["op"], document["rule"]) for document in documents):
        some = [document for document in documents if (document["op"], document["rule"]) == (op, rule)]
        factors = {name: [f for document in some if (f := _slower(document, ours, name)) is not None] for name in peers}
        means = [
            f"{name} {math.exp(statistics.fmean(map(math.log, known))):.3g}" for name, known in factors.items() if known
        ]
        if means:
            found.append(f"- {op} {rule}: " + ", ".join(means))
    return found or ["- none: no peer could be timed"]
