"""Counts of compiled calls as a table: one line for a call, and one for each of its launches."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from ..execution.counts import CallCounts, LaunchCounts
from .grid import grid


def table(calls: Sequence[CallCounts], device: str, *, launches: bool) -> Table:
    """Figures per token and value head; launches: a line for each as well, with the trips of its loops."""
    headings = ("rule", "kernel", "launches", "moved", "used", "wavefronts", "of ideal", "products", "trips")
    found = grid(*headings, left=2)
    found.title = f"per token and value head, forward, as compiled for {device}"
    for call in calls:
        rule, kernel = call.problem.rule.name, escape(f"{call.kernel} [{call.config}]")
        found.add_row(rule, kernel, str(len(call.launches)), *_figures(call.launches, call.rows), "")
        if launches:
            for launch in call.launches:
                trips = ", ".join(f"{count:g}" for _, count in launch.loops)
                found.add_row(
                    "", f"  {launch.kernel}", f"{launch.programs:,} programs", *_figures([launch], call.rows), trips
                )
    return found


def _figures(launches: Sequence[LaunchCounts], rows: int) -> tuple[str, ...]:
    moved, used = (sum(getattr(one, name) for one in launches) for name in ("moved", "used"))
    passes, ideal = (sum(getattr(one, name) for one in launches) for name in ("passes", "ideal"))
    products = sum(one.products for one in launches)
    return (
        f"{moved / rows:,.0f} bytes",
        f"{used / moved:.0%}" if moved else "-",
        f"{passes / rows:,.2f}",
        f"{passes / ideal:.2f}" if ideal else "-",
        f"{products / rows:,.0f}",
    )


NOTE = (
    "moved: sectors of 32 bytes that warps touch in global memory, an access at a time; used: the share of their bytes that is "
    "asked for. wavefronts: passes over the banks of shared memory, products of tensor cores aside. products: multiply-adds of "
    "tensor cores. What torch does itself, and copies of TMA, are not counted."
)
