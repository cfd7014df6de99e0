"""`autotune worker`: measure on this machine's GPU for a run that others began."""

from __future__ import annotations

from typing import Annotated

import typer

from ....verify.cli.options import CORES, FAILED, JobsOption, stdout
from ..options import BudgetOption, OutOption, device_of, errors, progress, seconds_of, writable


def worker(
    storage: Annotated[str, typer.Option("--storage", help="The URL given to `autotune --gpu X --storage URL`.")],
    budget: BudgetOption = None,
    jobs: JobsOption = CORES,
    out: OutOption = None,
) -> None:
    """Join a shared tuning run and measure on this machine's GPU. Start one worker for each GPU."""
    seconds = None if budget is None else seconds_of(budget)
    from ...join import join
    from ...reports.summary import print_summary

    if out is not None:
        writable(out)
    with errors(goes_on=True), progress() as hooks:
        reports = join(storage, device_of=device_of, jobs=jobs, out=out, budget=seconds, hooks=hooks)
    for report in reports:
        print_summary(stdout, report)
    raise typer.Exit(FAILED if any(report.failed for report in reports) else 0)
