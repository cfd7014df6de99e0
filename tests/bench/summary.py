"""The table and the plots of a side-by-side run, from its documents alone."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Document = dict[str, Any]
OURS = "deltaproof"


def timed(document: Document) -> list[dict[str, Any]]:
    """Contestants with samples."""
    return [entry for entry in document["contestants"] if entry.get("samples_ms")]


def typical(document: Document, samples: Sequence[float]) -> float:
    """The median; on a CPU, whose caches others use meanwhile, the minimum."""
    return min(samples) if document["environment"]["driver"] is None else statistics.median(samples)


def best(document: Document, ours: bool) -> dict[str, Any] | None:
    """The fastest of ours or of the peer's, by its median, among those whose outputs are finite."""
    valid = [entry for entry in timed(document) if (entry["who"] == OURS) == ours and entry.get("error") is not None]
    return min(valid, key=lambda entry: typical(document, entry["samples_ms"]), default=None)


def ratio(document: Document) -> float | None:
    """The peer's time over ours, round by round, since contestants take turns, and then the median; None where one is missing."""
    mine, other = best(document, True), best(document, False)
    if mine is None or other is None:
        return None
    return statistics.median(b / a for a, b in zip(mine["samples_ms"], other["samples_ms"], strict=True))


def copy_rate(document: Document) -> float:
    """Bytes per second of the copy that was measured beside."""
    copy = document["copy"]
    return copy["bytes"] / (typical(document, copy["samples_ms"]) * 1e-3)


def table(documents: Sequence[Document]) -> str:
    """Markdown: a row per piece of work, then geometric means, then who could not be timed and why."""
    around = documents[0]["environment"]
    known = ", ".join(f"{name} {value}" for name, value in around.items() if name != "device" and value)
    lines = [f"Measured on {around['device']} ({known}). Medians; errors are relative, of the outputs, against fp64."]
    lines += ["", "| work | ours | ms | of the copy rate | MiB | error | peer | ms | MiB | error | times faster |"]
    lines += ["|---|---|---:|---:|---:|---:|---|---:|---:|---:|---:|"]
    for document in documents:
        cells = [document["work"]]
        for ours in (True, False):
            entry = best(document, ours)
            if entry is None:
                cells += ["-"] * (5 if ours else 4)
                continue
            milliseconds = typical(document, entry["samples_ms"])
            share = document["ideal_bytes"] / (milliseconds * 1e-3) / copy_rate(document)
            memory = "-" if entry["peak_bytes"] is None else f"{entry['peak_bytes'] / 2**20:.0f}"
            cells += [entry["name"].partition("/")[2], f"{milliseconds:.3f}"]
            cells += ([f"{share:.0%}"] if ours else []) + [memory, f"{entry['error']:.1e}"]
        faster = ratio(document)
        lines.append("| " + " | ".join([*cells, "-" if faster is None else f"{faster:.2f}"]) + " |")
    lines += ["", *_means(documents)]
    if unable := reasons(documents):
        lines += ["", "Not timed:", *unable]
    return "\n".join(lines) + "\n"


def reasons(documents: Sequence[Document]) -> list[str]:
    """Who was not timed, on what, and why; on everything at once where that is so."""
    found: dict[tuple[str, str], list[str]] = {}
    for document in documents:
        for entry in document["contestants"]:
            if "unable" in entry:
                found.setdefault((entry["name"], entry["unable"]), []).append(document["work"])
    return [
        f"- {name} on {'everything' if len(works) == len(documents) else ', '.join(works)}: {why}"
        for (name, why), works in sorted(found.items())
    ]


def _means(documents: Sequence[Document]) -> list[str]:
    found = []
    for op, rule in dict.fromkeys((document["op"], document["rule"]) for document in documents):
        ratios = [
            value
            for document in documents
            if (document["op"], document["rule"]) == (op, rule) and (value := ratio(document)) is not None
        ]
        if ratios:
            mean = math.exp(statistics.fmean(map(math.log, ratios)))
            found.append(
                f"- {op} {rule}: {mean:.2f} times faster (geometric mean of {len(ratios)}), least {min(ratios):.2f}"
            )
    return found


def write_plots(documents: Sequence[Document], folder: Path) -> None:
    """One SVG per op and rule: milliseconds of every contestant by shape, with the span of the samples."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    for op, rule in dict.fromkeys((document["op"], document["rule"]) for document in documents):
        chosen = [document for document in documents if (document["op"], document["rule"]) == (op, rule)]
        names = list(dict.fromkeys(entry["name"] for document in chosen for entry in timed(document)))
        figure, axes = pyplot.subplots(figsize=(1.5 + 1.3 * len(chosen), 4))
        width = 0.8 / max(1, len(names))
        for place, name in enumerate(names):
            at, middle, below, above = [], [], [], []
            for index, document in enumerate(chosen):
                samples = next((entry["samples_ms"] for entry in timed(document) if entry["name"] == name), None)
                if samples:
                    at.append(index + (place - (len(names) - 1) / 2) * width)
                    middle.append(statistics.median(samples))
                    below.append(middle[-1] - min(samples))
                    above.append(max(samples) - middle[-1])
            axes.bar(at, middle, width, yerr=(below, above), label=name, error_kw={"linewidth": 0.7})
        if chosen[0]["environment"]["driver"] is not None:
            floors = [document["ideal_bytes"] / copy_rate(document) * 1e3 for document in chosen]
            axes.plot(range(len(chosen)), floors, "k_", markersize=24, label="ideal bytes at the copy rate")
        shapes = [document["work"].rsplit("-", 1)[1] for document in chosen]
        axes.set_xticks(range(len(chosen)), shapes, rotation=30, ha="right")
        axes.set(yscale="log", ylabel="milliseconds", title=f"{op} {rule}, {documents[0]['environment']['device']}")
        axes.legend(fontsize="small")
        figure.tight_layout()
        figure.savefig(folder / f"{op}-{rule}.svg", metadata={"Date": None})
        pyplot.close(figure)
