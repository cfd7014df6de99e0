"""`autotune check`: does a table still hold?"""

from __future__ import annotations

from typing import Annotated

import typer

from ...verify.cli.options import CORES, FAILED, JobsOption, stdout
from .options import GpuOption, OutOption, device_of, errors, gpu_of, ledger_of, needs_table


def check(
    gpu: GpuOption,
    out: OutOption = None,
    canaries: Annotated[
        bool, typer.Option("--canaries", help="Try canaries again even if Triton and the driver are what they were.")
    ] = False,
    jobs: JobsOption = CORES,
) -> None:
    """Whether a table is what its records amount to, for the kernels as they are, and whether a few entries still are as they
    were under the installed Triton and driver."""
    from ..check import check_table

    target = gpu_of(gpu)
    with errors():
        ledger = ledger_of(target, out)
        needs_table(ledger)
        lines, holds = check_table(ledger, target, device_of, forced=canaries, jobs=jobs)
    for line in lines:
        stdout.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(0 if holds else FAILED)
