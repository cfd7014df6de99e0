"""`autotune bench-model`: the cost model against recorded timings of a kernel on real GPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from ....verify.cli.options import CORES, JobsOption, JsonOption, stdout
from ..options import errors, progress, write


def bench_model(
    landscape: Annotated[
        Path, typer.Option("--landscape", help="Recorded times of a matrix product.", exists=True, dir_okay=False)
    ],
    jobs: JobsOption = CORES,
    json_path: JsonOption = None,
) -> None:
    """Compile what was recorded, predict its times, and say how good the model's choice would have been."""
    from ...bench.bench_model import bench_model, print_bench_model
    from ...compile.cache import Cache, default_folder

    with errors(), progress() as hooks:
        cache = Cache(folder=default_folder(), warn=hooks.warn)
        result = bench_model(landscape, cache=cache, jobs=jobs, progress=hooks.progress)
    print_bench_model(stdout, result)
    if json_path is not None:
        write(json_path, json.dumps(result, indent=1) + "\n")
