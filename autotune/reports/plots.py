"""The report's figures, as SVG that stands in the page and takes its colours of text and ground, light or dark.

Equal records give equal figures. A family has the colour of its rule and the marker of its K, a panel for each op.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import cycle
from typing import Any

from ...results.schema.entry import TIERS, TableEntry
from ...results.schema.key import Key
from ...results.schema.record import Compiled
from ...specs.gpus import Gpu
from ..model.ranking import HEADS, sizes
from ..space.points import Family
from .analysis import roofline
from .summary import short

_WIDTH = 12.0
"""Inches that fill the page's column, with letters of the size of its text."""
_INK, _GROUND = "#010203", "#fdfcfb"
"""Stand for the page's colours of text and ground."""
_TIERS = {"A": "#2e9e68", "B": "#8ccfac", "C": "#e0b13c", "none": "#8a93a3"}
_COLOURS = ("#1f83c6", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a93a3")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_STROKES: tuple[Any, ...] = ("-", "--", ":")


def rejections(compiled: Sequence[Compiled], reasons: Mapping[str, Counter[str]]) -> str:
    """Points by stage: those kept, and those rejected, by reason."""
    total = Counter(record.stage for record in compiled)
    stages = sorted(total)
    figure, (axes,) = _panels(1, 1.0 + 0.26 * len(stages))
    late = ("resources", "spill", "duplicate")
    rows = {"kept": [total[stage] - sum(reasons.get(stage, Counter())[name] for name in late) for stage in stages]}
    for name in sorted({reason for counts in reasons.values() for reason in counts}):
        rows[name] = [reasons.get(stage, Counter())[name] for stage in stages]
    start = [0] * len(stages)
    for (name, values), colour in zip(rows.items(), cycle(_COLOURS), strict=False):
        axes.barh(stages, values, left=start, label=name, color=colour)
        start = [before + value for before, value in zip(start, values, strict=True)]
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("points")
    figure.legend(ncols=6, loc="outside upper left")
    return _svg(figure)


def stacks(compiled: Sequence[Compiled]) -> str:
    """Stack against registers: where spilling begins."""
    figure, (axes,) = _panels(1, 3.6)
    looks = cycle((colour, marker) for marker in _MARKERS for colour in _COLOURS)
    count = Counter(record.stage for record in compiled)
    # Rare stages are drawn last, so that they are not hidden.
    for stage, (colour, marker) in zip(sorted(count, key=lambda stage: (-count[stage], stage)), looks, strict=False):
        some = [record for record in compiled if record.stage == stage]
        registers = [record.resources.registers / max(1, record.resources.threads) for record in some]
        stack = [record.stack for record in some]
        axes.scatter(registers, stack, s=14, alpha=0.6, label=stage, color=colour, marker=marker, linewidths=0)
    axes.set_yscale("symlog", linthresh=16)
    axes.set_xlabel("registers per thread")
    axes.set_ylabel("stack, bytes per thread")
    figure.legend(ncols=6, loc="outside upper left", markerscale=2)
    return _svg(figure)


def history(
    steps: Mapping[Family, Sequence[tuple[int, float]]] | Mapping[Key, Sequence[tuple[int, float]]], what: str
) -> str:
    """The best so far, as a multiple of the best in the end, against how many were tried."""
    from matplotlib.ticker import LogFormatter

    def line(axes: Any, name: Family | Key, look: Mapping[str, Any]) -> None:
        some = steps[name]  # pyright: ignore[reportArgumentType]
        ratios = [time / some[-1][1] for _, time in some]
        axes.step([count for count, _ in some], ratios, where="post", markevery=[0], **look)

    def finish(axes: Any) -> None:
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_ylim(0.97, max(1.5, axes.dataLim.ymax * 1.1))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
            axis.set_minor_formatter(LogFormatter(minor_thresholds=(1, 0.5)))
        axes.set_xlabel(what)

    return _by_op(steps, line, finish, "best so far / best in the end", 3.6)


def importance(shares: Mapping[str, Mapping[str, float]]) -> str:
    """Shares of variance by parameter, a group of bars for each stage or op; named one by one where colours do not suffice."""
    names = list(dict.fromkeys(name for some in shares.values() for name in some))
    figure, (axes,) = _panels(
        1, 0.9 + sum((0.22 if len(names) > len(_COLOURS) else 0.14) * len(some) + 0.1 for some in shares.values())
    )
    colours = dict(zip(names, cycle(_COLOURS), strict=False))
    many = len(names) > len(_COLOURS)
    top, ticks, named = 0.0, {}, set()
    for group, some in shares.items():
        if not many:
            ticks[top + (len(some) - 1) / 2] = group
        for name, share in some.items():
            if many:
                ticks[top] = f"{group}: {name}"
            label = None if many or name in named else name
            axes.barh(top, 100 * share, height=1.0, color=_COLOURS[0] if many else colours[name], label=label)
            named.add(name)
            top += 1
        top += 0.8
    axes.set_yticks(list(ticks), list(ticks.values()))
    axes.margins(y=0.01)
    axes.invert_yaxis()
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("percent of the variance of log time that the parameter alone explains")
    if not many:
        figure.legend(ncols=6, loc="outside upper left")
    return _svg(figure)


def against_roofline(subjects: Mapping[Family, Sequence[TableEntry]], gpu: Gpu, heads: int) -> str:
    """Time of the entries over the roofline, against length, at one width."""

    def line(axes: Any, family: Family | Key, look: Mapping[str, Any]) -> None:
        assert isinstance(family, Family)
        some = sorted((entry for entry in subjects[family] if entry.key.heads == heads and entry.milliseconds is not None),
                      key=lambda entry: entry.key.tokens)  # fmt: skip
        ratios = [(entry.milliseconds or 0.0) / roofline(entry, gpu) for entry in some]
        axes.plot([entry.key.tokens for entry in some], ratios, **look)

    def finish(axes: Any) -> None:
        axes.axhline(1.0, color=_INK, linewidth=1, linestyle="--")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(bottom=0)
        axes.set_xlabel(f"tokens, at {heads} sequences x heads")

    return _by_op(subjects, line, finish, "time / roofline", 4.2)


def coverage(subjects: Mapping[Family, Sequence[TableEntry]]) -> str:
    """Draw which buckets have an entry, of which tier, and where a family's configuration changes: one letter for each."""
    from matplotlib.colors import ListedColormap
    from matplotlib.patches import Patch

    grid = sizes()
    shown = [tier for tier in TIERS if tier in _TIERS]
    figure, (axes,) = _panels(1, 1.2 + 0.24 * len(subjects), grid=False)
    rows = []
    for row, entries in enumerate(subjects.values()):
        there = {(entry.key.tokens, entry.key.heads): entry for entry in entries}
        letters = {config: _letter(place) for place, config in enumerate(_most_used(entries))}
        rows.append([shown.index(there[size].tier) if size in there else len(shown) for size in grid])
        for column, size in enumerate(grid):
            if size in there:
                axes.text(
                    column, row, letters[there[size].config], ha="center", va="center", color="#1d2330", fontsize=9
                )
    colours = ListedColormap([*(_TIERS[tier] for tier in shown), _TIERS["none"]])
    axes.imshow(rows, cmap=colours, vmin=0, vmax=len(shown), aspect="auto")
    axes.set_yticks(range(len(subjects)), [short(family) for family in subjects])
    axes.set_xticks(range(len(grid)), [str(heads) for _, heads in grid], fontsize=7)
    groups = [(place, tokens) for place, (tokens, heads) in enumerate(grid) if heads == HEADS[0]]
    below = axes.secondary_xaxis(0)
    below.set_xticks(
        [place + (len(HEADS) - 1) / 2 for place, _ in groups], [f"\n{tokens} tokens" for _, tokens in groups]
    )
    below.tick_params(length=0)
    for place in range(len(grid) + 1):
        axes.axvline(place - 0.5, color=_GROUND, linewidth=4 if place % len(HEADS) == 0 else 1)
    for place in range(len(subjects) + 1):
        axes.axhline(place - 0.5, color=_GROUND, linewidth=1)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    below.spines[:].set_visible(False)
    axes.set_xlabel("sequences x heads, within tokens of the longest sequence", labelpad=18)
    present = {value for row in rows for value in row}
    patches = [
        Patch(color=_TIERS[name], label=f"tier {name}" if name in shown else "no entry")
        for place, name in enumerate((*shown, "none")) if place in present
    ]  # fmt: skip
    figure.legend(handles=patches, ncols=4, loc="outside upper left")
    return _svg(figure)


def losses(entries: Sequence[TableEntry], *, of: str) -> str:
    """The loss of the default, or of the configuration of a neighbouring bucket, in percent, by tokens and heads.

    of: "default_loss" or "neighbour_loss".
    """
    from matplotlib import colormaps

    keys = [entry.key for entry in entries]
    tokens, heads = sorted({key.tokens for key in keys}), sorted({key.heads for key in keys})
    table = [[float("nan")] * len(tokens) for _ in heads]
    figure, (axes,) = _panels(1, 0.7 + 0.32 * len(heads), width=_WIDTH / 2, grid=False)
    for entry in entries:
        if (loss := getattr(entry, of)) is not None:
            table[heads.index(entry.key.heads)][tokens.index(entry.key.tokens)] = 100 * loss
    most = max((loss for row in table for loss in row if loss == loss), default=0.0)
    axes.imshow(table, cmap="viridis", aspect="auto", vmin=0, vmax=max(most, 1.0))
    for row, some in enumerate(table):
        for column, loss in enumerate(some):
            if loss == loss:
                bright = sum(colormaps["viridis"](loss / max(most, 1.0))[:3]) > 1.5
                ink = "#1d2330" if bright else "#ffffff"
                axes.text(column, row, f"{loss:.3g}", ha="center", va="center", color=ink)
    axes.set_xticks(range(len(tokens)), [str(count) for count in tokens])
    axes.set_yticks(range(len(heads)), [str(count) for count in heads])
    axes.set_xlabel("tokens")
    axes.set_ylabel("sequences x heads")
    return _svg(figure)


def _by_op(
    families: Iterable[Family | Key], line: Callable[[Any, Family | Key, Mapping[str, Any]], None],
    finish: Callable[[Any], None], what: str, height: float,
) -> str:  # fmt: skip
    """A panel for each op with a line for each family, coloured by rule and marked by K; strokes tell dtypes apart."""
    from matplotlib.lines import Line2D

    some = list(families)
    ops = sorted({family.op for family in some})
    colours = dict(zip(sorted({family.rule for family in some}), cycle(_COLOURS), strict=False))
    markers = dict(zip(sorted({family.K for family in some}), cycle(_MARKERS), strict=False))
    strokes = dict(zip(sorted({family.dtype for family in some}), cycle(_STROKES), strict=False))
    figure, panels = _panels(len(ops), height)
    for op, axes in zip(ops, panels, strict=True):
        for family in some:
            if family.op == op:
                look = {"color": colours[family.rule], "marker": markers[family.K], "linestyle": strokes[family.dtype]}
                line(axes, family, look | {"markersize": 5, "linewidth": 1.2})
        axes.set_title(op)
        finish(axes)
    panels[0].set_ylabel(what)
    legend = [Line2D([], [], color=colour, linewidth=4, label=rule) for rule, colour in colours.items()]
    legend += [Line2D([], [], color=_INK, marker=marker, linestyle="", label=f"K={K}") for K, marker in markers.items()]
    if len(strokes) > 1:
        legend += [Line2D([], [], color=_INK, linestyle=stroke, label=dtype) for dtype, stroke in strokes.items()]
    figure.legend(handles=legend, ncols=6, loc="outside upper left")
    return _svg(figure)


def _most_used(entries: Sequence[TableEntry]) -> list[str]:
    """Configurations, from the one that most entries name."""
    count = Counter(entry.config for entry in entries)
    return sorted(count, key=lambda config: (-count[config], config))


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else str(place)


def _panels(count: int, height: float, *, width: float = _WIDTH, grid: bool = True) -> tuple[Any, list[Any]]:
    import matplotlib

    matplotlib.use("svg")
    from matplotlib.figure import Figure

    inks = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color", "grid.color")
    matplotlib.rcParams.update({
        "svg.hashsalt": "deltaproof", "font.size": 10, "axes.titlesize": 11, "legend.frameon": False,
        "legend.fontsize": 10, "figure.facecolor": "none", "axes.facecolor": "none", "savefig.facecolor": "none",
        "axes.grid": grid, "axes.axisbelow": True, "grid.alpha": 0.2, "axes.spines.top": False,
        "axes.spines.right": False, **dict.fromkeys(inks, _INK),
    })  # fmt: skip
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def _svg(figure: Any) -> str:
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    _, start, rest = text.getvalue().partition("<svg")
    return (start + rest).replace(_INK, "currentColor").replace(_GROUND, "var(--page)")
