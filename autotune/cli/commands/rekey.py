"""`autotune rekey`: after an edit of a kernel, keep the entries whose programs did not change."""

from __future__ import annotations

import typer

from ....verify.cli.options import CORES, FAILED, JobsOption, stderr, stdout
from ..options import GpuOption, OutOption, errors, gpu_of, ledger_of, needs_table, progress, writable


def rekey(
    gpu: GpuOption,
    out: OutOption = None,
    jobs: JobsOption = CORES,
) -> None:
    """After an edit of a kernel, recompile the programs of stale entries, and keep the entries whose programs are the same."""
    from ....verify.compile.compilation import Cache, compiled_folder
    from ...tables.rekey import rekey as carry_over

    target = gpu_of(gpu)
    with errors(goes_on=True), progress() as hooks:
        ledger = ledger_of(target, out)
        needs_table(ledger)
        writable(ledger.table_path.parent)
        cache = Cache(folder=compiled_folder(), warn=hooks.warn)
        outcome = carry_over(ledger, target, cache, jobs=jobs, progress=hooks.progress)
    for line in outcome.left:
        stderr.print(f"autotune: {line}", soft_wrap=True, markup=False)
    left = outcome.stale - outcome.carried
    stdout.print(
        f"{outcome.stale} stale: {outcome.carried} carried over, {left} left"
        + (f"; run `{ledger.command()}` for these" if left else "")
        + (
            f"; what passed under Triton {', '.join(outcome.unjudged)} is to be judged again: "
            f"run `{ledger.command('gate')}` under each"
            if outcome.unjudged
            else ""
        ),
        soft_wrap=True,
        markup=False,
    )
    raise typer.Exit(FAILED if left else 0)
