"""`autotune report`: a GPU's records, summed up for the terminal and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ....verify.cli.options import FAILED, stderr, stdout
from ....verify.cli.outputs import proven
from ..options import GpuOption, OutOption, errors, gpu_of, ledger_of, usage, writable, write


def report(
    gpu: GpuOption,
    out: OutOption = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", help="The page; <out>/reports/<gpu>.html by default.", dir_okay=False, callback=proven),
    ] = None,
) -> None:
    """Summarise a GPU's records, and write one self-contained page."""
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
