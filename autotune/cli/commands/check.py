"""`autotune check`: does a table still hold?"""

from __future__ import annotations

from typing import Annotated

import typer

from ....verify.cli.options import CORES, FAILED, JobsOption, stdout
from ..options import GpuOption, OutOption, device_of, errors, gpu_of, ledger_of, needs_table


def check(
    gpu: GpuOption,
    out: OutOption = None,
    canaries: Annotated[
        bool, typer.Option("--canaries", help="Re-test a few entries even if Triton and the driver have not changed.")
    ] = False,
    jobs: JobsOption = CORES,
) -> None:
    """Check that a table matches its records and the current kernels, and re-test a few entries under the installed Triton and
    driver."""
    from ...tables.check import check_table

    target = gpu_of(gpu)
    with errors():
        ledger = ledger_of(target, out)
        needs_table(ledger)
        lines, holds = check_table(ledger, target, device_of, forced=canaries, jobs=jobs)
    for line in lines:
        stdout.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(0 if holds else FAILED)
