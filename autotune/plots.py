"""The report's figures, as SVG that stands in the page. Equal records give equal figures."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from ..results.entry import TIERS, TableEntry
from ..results.record import Compiled
from ..specs.gpus import Gpu
from .insight import roofline
from .points import Family
from .ranking import sizes

_COLOURS = {"A": "#1a7f4b", "B": "#6fb98f", "C": "#e0b13c", "none": "#d9dde4"}


def rejections(compiled: Sequence[Compiled], reasons: Mapping[str, Counter[str]]) -> str:
    """Points by stage: what stayed, and what left for which reason."""
    figure, axes = _axes(7, 2.6)
    total = Counter(record.stage for record in compiled)
    stages = sorted(total)
    late = ("resources", "spill", "duplicate")
    rows = {"kept": [total[stage] - sum(reasons.get(stage, Counter())[name] for name in late) for stage in stages]}
    for name in sorted({reason for counts in reasons.values() for reason in counts}):
        rows[name] = [reasons.get(stage, Counter())[name] for stage in stages]
    start = [0] * len(stages)
    for name, values in rows.items():
        axes.barh(stages, values, left=start, label=name)
        start = [before + value for before, value in zip(start, values, strict=True)]
    axes.set_xlabel("points")
    axes.legend(fontsize=7, frameon=False)
    return _svg(figure)


def stacks(compiled: Sequence[Compiled]) -> str:
    """Stack against registers: where spilling begins."""
    figure, axes = _axes(7, 2.6)
    for stage in sorted({record.stage for record in compiled}):
        some = [record for record in compiled if record.stage == stage]
        registers = [record.resources.registers / max(1, record.resources.threads) for record in some]
        axes.scatter(registers, [record.stack for record in some], s=8, alpha=0.6, label=stage)
    axes.set_yscale("symlog", linthresh=16)
    axes.set_xlabel("registers per thread")
    axes.set_ylabel("stack, bytes per thread")
    axes.legend(fontsize=7, frameon=False)
    return _svg(figure)


def history(steps: Mapping[Any, Sequence[tuple[int, float]]], what: str) -> str:
    """The best so far, as a multiple of the best in the end, against how many were tried."""
    figure, axes = _axes(7, 2.8)
    for name, some in steps.items():
        least = some[-1][1]
        label = str(name) if len(steps) <= 9 else None
        axes.step(
            [count for count, _ in some], [time / least for _, time in some], where="post", label=label, linewidth=1
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel(what)
    axes.set_ylabel("best so far / best")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=7)
    if len(steps) <= 9:
        axes.legend(fontsize=6, frameon=False)
    return _svg(figure)


def importance(shares: Mapping[str, Mapping[str, float]]) -> str:
    """Shares of variance by parameter, a group of bars for each stage or op."""
    names = list(dict.fromkeys(name for some in shares.values() for name in some))
    figure, axes = _axes(7, max(1.6, 0.32 * len(shares) * max(1, len(names)) / 2 + 0.8))
    height = 0.8 / max(1, len(names))
    for place, name in enumerate(names):
        heights = [row + place * height for row in range(len(shares))]
        axes.barh(heights, [100 * some.get(name, 0.0) for some in shares.values()], height=height, label=name)
    axes.set_yticks([row + 0.4 for row in range(len(shares))], list(shares), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel("percent of the variance of log time that the parameter alone explains")
    axes.legend(fontsize=7, frameon=False)
    return _svg(figure)


def against_roofline(subjects: Mapping[str, Sequence[TableEntry]], gpu: Gpu, heads: int) -> str:
    """Time of the entries over the roofline, against length, at one width."""
    figure, axes = _axes(7, 3.0)
    for name, entries in subjects.items():
        some = sorted((entry for entry in entries if entry.key.heads == heads and entry.milliseconds is not None),
                      key=lambda entry: entry.key.tokens)  # fmt: skip
        ratios = [(entry.milliseconds or 0.0) / roofline(entry, gpu) for entry in some]
        axes.plot([entry.key.tokens for entry in some], ratios, marker="o", markersize=3, linewidth=1, label=name)
    axes.axhline(1.0, color="#555", linewidth=1, linestyle="--")
    axes.set_xscale("log", base=2)
    axes.set_ylim(bottom=0)
    axes.set_xlabel(f"tokens, at {heads} sequences x heads")
    axes.set_ylabel("time / roofline")
    axes.legend(fontsize=6, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def coverage(subjects: Mapping[str, Sequence[TableEntry]]) -> str:
    """Which buckets have an entry, and of which tier."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    grid = sizes()
    shown = [tier for tier in TIERS if tier in _COLOURS]
    figure, axes = _axes(7, 1.2 + 0.22 * len(subjects))
    rows = []
    for entries in subjects.values():
        tiers = {(entry.key.tokens, entry.key.heads): entry.tier for entry in entries}
        rows.append([shown.index(tiers[size]) if size in tiers else len(shown) for size in grid])
    colours = ListedColormap([*(_COLOURS[tier] for tier in shown), _COLOURS["none"]])
    axes.imshow(rows, cmap=colours, vmin=0, vmax=len(shown), aspect="auto")
    axes.set_yticks(range(len(subjects)), list(subjects), fontsize=7)
    axes.set_xticks(range(len(grid)), [f"{tokens} x {heads}" for tokens, heads in grid], fontsize=6, rotation=90)
    axes.set_xlabel("tokens x (sequences x heads)", fontsize=8)
    patches = [
        Patch(color=_COLOURS[name], label=f"tier {name}" if name in shown else "no entry") for name in (*shown, "none")
    ]
    axes.legend(handles=patches, fontsize=7, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return _svg(figure)


def losses(entries: Sequence[TableEntry], *, of: str) -> str:
    """What the default, or the configuration of a neighbouring bucket, loses, in percent, by tokens and heads.

    of: "default_loss" or "neighbour_loss".
    """
    keys = [entry.key for entry in entries]
    tokens, heads = sorted({key.tokens for key in keys}), sorted({key.heads for key in keys})
    table = [[float("nan")] * len(tokens) for _ in heads]
    for entry in entries:
        if (loss := getattr(entry, of)) is not None:
            table[heads.index(entry.key.heads)][tokens.index(entry.key.tokens)] = 100 * loss
    figure, axes = _axes(5, 1.9)
    image = axes.imshow(table, cmap="viridis", aspect="auto", vmin=0)
    axes.set_xticks(range(len(tokens)), [str(count) for count in tokens], fontsize=7)
    axes.set_yticks(range(len(heads)), [str(count) for count in heads], fontsize=7)
    axes.set_xlabel("tokens", fontsize=8)
    axes.set_ylabel("sequences x heads", fontsize=8)
    figure.colorbar(image, ax=axes, label="%")
    return _svg(figure)


def short(family: Family) -> str:
    return f"{family.op} {family.rule} {family.dtype} {family.K}"


def _axes(width: float, height: float) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.hashsalt"] = "deltaproof"
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue().partition("<svg")[1] + text.getvalue().partition("<svg")[2]
