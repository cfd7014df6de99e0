"""`autotune bench-model`: the cost model against recorded timings of a kernel, and published times of a call, on real GPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ....verify.cli.options import CORES, JobsOption, JsonOption, proven, stdout
from ..options import errors, progress, write


def bench_model(
    landscape: Annotated[
        Path | None,
        typer.Option("--landscape", help="Recorded times of a matrix product.", exists=True, dir_okay=False),
    ] = None,
    published: Annotated[
        Path | None,
        typer.Option(
            "--published", help="Published times of flash-linear-attention's GDN.", exists=True, dir_okay=False
        ),
    ] = None,
    jobs: JobsOption = CORES,
    json_path: JsonOption = None,
    plot: Annotated[
        Path | None,
        typer.Option("--plot", help="SVG of predicted over published.", dir_okay=False, callback=proven),
    ] = None,
) -> None:
    """Compile recorded programs, predict their times, and show how good the model's choice would have been."""
    from ....results.schema.strict import TableError
    from ....verify.compile.compilation import Cache, compiled_folder
    from ...bench.cost_model import bench_model, print_bench_model
    from ...bench.plots import plot_published
    from ...fla.published.judge import bench_published, print_published

    with errors(goes_on=True), progress() as hooks:
        if landscape is None and published is None:
            raise TableError("bench-model: nothing to judge by; name --landscape FILE or --published FILE")
        if plot is not None and published is None:
            raise TableError("bench-model: --plot needs --published FILE")
        cache = Cache(folder=compiled_folder(), warn=hooks.warn)
        found = {}
        if landscape is not None:
            found |= bench_model(landscape, cache=cache, jobs=jobs, progress=hooks.progress)
        if published is not None:
            found |= bench_published(published, cache=cache, jobs=jobs, progress=hooks.progress)
    if landscape is not None:
        print_bench_model(stdout, found)
    if published is not None:
        print_published(stdout, found)
    if plot is not None:
        write(plot, plot_published(found))
    if json_path is not None:
        write(json_path, json.dumps(found, indent=1) + "\n")
