"""`autotune bench-search`: our search against others, on recorded timings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ....verify.cli.options import CORES, JobsOption, JsonOption, proven, stdout
from ..options import errors, progress, write


def bench_search(
    landscapes: Annotated[
        Path, typer.Option("--landscapes", help="Folder of recordings.", exists=True, file_okay=False)
    ],
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Runs of every method on every landscape.")] = 30,
    first: Annotated[int, typer.Option("--first-seed", min=0, max=1_000_000, help="Seed of the first run.")] = 1000,
    budget: Annotated[int, typer.Option(min=25, max=100_000, help="Evaluations of a run.")] = 200,
    problems: Annotated[
        int, typer.Option(min=1, max=100_000, help="How many problems to draw from a file that has more.")
    ] = 20,
    method: Annotated[
        list[str] | None, typer.Option("--method", help="Only these searches; by default all that can run here.")
    ] = None,
    kept: Annotated[
        Path | None,
        typer.Option(
            "--runs",
            help="Add every run to this file as it ends, and repeat none that is in it.",
            dir_okay=False,
            callback=proven,
        ),
    ] = None,
    jobs: JobsOption = CORES,
    json_path: JsonOption = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="SVG of the means over evaluations.", dir_okay=False, callback=proven)
    ] = None,
) -> None:
    """Replay recorded timings and compare our search with others, as fractions of the optimum."""
    from ...bench.plots import plot_search
    from ...bench.searches import bench, print_bench

    with errors(), progress() as hooks:
        result = bench(
            landscapes, seeds=seeds, first=first, budget=budget, jobs=jobs, progress=hooks.progress,
            methods=method or (), problems=problems, kept=kept,
        )  # fmt: skip
    print_bench(stdout, result)
    if json_path is not None:
        write(json_path, json.dumps(result, indent=1) + "\n")
    if plot is not None:
        write(plot, plot_search(result))
