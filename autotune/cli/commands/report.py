"""`autotune report`: a GPU's records, summed up for the terminal and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from ....verify.cli.options import FAILED, stderr, stdout
from ....verify.cli.outputs import proven
from ..options import (
    ExportedOption,
    GpuOption,
    OutOption,
    TargetName,
    errors,
    gpu_of,
    ledger_of,
    usage,
    writable,
    write,
)


def report(
    gpu: GpuOption,
    out: OutOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="The page; <out>/reports/<gpu>.html by default.", dir_okay=False, callback=proven),
    ] = None,
    kernels: ExportedOption = TargetName.deltaproof.value,
) -> None:
    """Summarise a GPU's records, and write one self-contained page; of a --target, show its table."""
    if kernels not in list(TargetName):
        _of_target(kernels, gpu, out, html)
    if kernels == TargetName.fla:
        usage(
            "--target fla: its table has no report; `autotune --target fla` says what was kept and rejected, with --json too"
        )
    from ...reports.page import outdated, page, print_records

    with errors():
        ledger = ledger_of(gpu_of(gpu), out)
        if not ledger.records:
            usage(f"no records in {ledger.folder}; run `{ledger.command()}` first")
        # Proven here, since the work takes a while.
        path = html or writable(ledger.table_path.parent.parent / "reports") / f"{ledger.gpu.slug}.html"
        if line := outdated(ledger):
            stderr.print(f"autotune: {line}", soft_wrap=True, markup=False)
            raise typer.Exit(FAILED)
        print_records(stdout, ledger)
        write(path, page(ledger))
    stdout.print(f"page: {path}", soft_wrap=True, markup=False)


def _of_target(kernels: str, gpu: str, out: Path | None, html: Path | None) -> NoReturn:
    from ...records.ledger import default_out
    from ...targets.summary import of_table
    from ...targets.tune import read_target_table

    if html is not None:
        usage(f"--target {kernels} takes no --html: its table is shown here, and has no page")
    with errors():
        table = read_target_table(out or default_out(), gpu_of(gpu), kernels)
    for line in of_table(table):
        stdout.print(line, soft_wrap=True, markup=False)
    raise typer.Exit(0)
