"""`autotune publish`: ship a table."""

from __future__ import annotations

from typing import Annotated

import typer

from ....verify.cli.options import CORES, FAILED, JobsOption, stdout
from ..options import GpuOption, OutOption, TargetName, device_of, errors, gpu_of, ledger_of, usage


def publish(
    gpu: GpuOption,
    out: OutOption = None,
    kernels: Annotated[
        TargetName, typer.Option("--target", help="fla: the configurations of FLA's own kernels.")
    ] = TargetName.deltaproof,
    jobs: JobsOption = CORES,
) -> None:
    """Check a GPU's table as `autotune check` does, then move it and its records into results/ of this checkout."""
    from ....results.files.checkout import checkout

    target = gpu_of(gpu)
    if (root := checkout()) is None:
        usage("publish writes into results/ of a checkout of deltaproof, but this is an installed package")
    with errors():
        if kernels is TargetName.fla:
            from ...fla.tune import publish as publish_fla

            lines, published = [publish_fla(out, target, root / "results")], True
        else:
            from ...tables.publish import publish as publish_table

            lines, published = publish_table(ledger_of(target, out), target, root / "results", device_of, jobs=jobs)
    for line in lines:
        stdout.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(0 if published else FAILED)
