"""`autotune bench-search`: our search against others, on recorded timings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ....verify.cli.options import CORES, JobsOption, JsonOption, stdout
from ..options import errors, progress, write


def bench_search(
    landscapes: Annotated[
        Path, typer.Option("--landscapes", help="Folder of recordings.", exists=True, file_okay=False)
    ],
    seeds: Annotated[int, typer.Option(min=1, max=10_000, help="Runs of every method on every landscape.")] = 10,
    budget: Annotated[int, typer.Option(min=50, max=100_000, help="Evaluations of a run.")] = 200,
    jobs: JobsOption = CORES,
    json_path: JsonOption = None,
) -> None:
    """Replay recorded timings and compare our search with random search and plain TPE, as fractions of the optimum."""
    from ...search.bench_search import bench, print_bench

    with errors(), progress() as hooks:
        result = bench(landscapes, seeds=seeds, budget=budget, jobs=jobs, progress=hooks.progress)
    print_bench(stdout, result)
    if json_path is not None:
        write(json_path, json.dumps(result, indent=1) + "\n")
