"""Plots of the benchmarks, as SVG."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure


def plot_search(result: Mapping[str, Any]) -> str:
    """The mean fraction of the optimum over evaluations, a line per method."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.subplots()
    for method, row in result["mean"].items():
        at = [int(column) for column in row if column.isdigit()]
        axes.plot(
            at, [row[str(point)] for point in at], marker="o", label=method, lw=3 if method == "deltaproof" else 1
        )
    axes.set_xscale("log", base=2)
    axes.set_xticks(at, [str(point) for point in at])
    axes.set_xlabel("evaluations")
    axes.set_ylabel("optimum over best, mean")
    axes.legend(fontsize="small")
    axes.grid(alpha=0.3)
    return _svg(figure)


def plot_published(result: Mapping[str, Any]) -> str:
    """Predicted over published milliseconds of every call, a colour per GPU."""
    figure = Figure(figsize=(5, 5), layout="constrained")
    axes = figure.subplots()
    ends: list[float] = []
    for name, one in result["gpus"].items():
        measured, predicted = ([row[column] for row in one["rows"]] for column in ("measured", "predicted"))
        axes.plot(measured, predicted, ".", label=name)
        ends += [*measured, *predicted]
    if ends:
        axes.plot([min(ends), max(ends)], [min(ends), max(ends)], color="0.5", lw=1)
        axes.legend(fontsize="small")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("published, ms")
    axes.set_ylabel("predicted, ms")
    axes.grid(alpha=0.3)
    return _svg(figure)


def _svg(figure: Figure) -> str:
    out = io.StringIO()
    with rc_context({"svg.hashsalt": "deltaproof"}):
        FigureCanvasSVG(figure).print_svg(out, metadata={"Date": None})
    return out.getvalue()
